//! Sense data on the wire.

use proptest::prelude::*;
use scsi::sense::{Asc, FieldPointer, Sense, SenseKey};

#[test]
fn fixed_format_has_its_fields_in_their_places() {
    let bytes = Sense::illegal_bit_in_cdb(2, 5).encode(false);
    let expected = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xCD, 0, 2];
    assert_eq!(bytes, expected);
    let bytes = Sense::miscompare(0x1234).encode(false);
    assert_eq!(bytes[..8], [0xF0, 0, 0x0E, 0, 0, 0x12, 0x34, 10]);
    assert_eq!(bytes[12..], [0x1D, 0, 0, 0, 0, 0]);
}

#[test]
fn descriptor_format_has_a_descriptor_for_each_fact() {
    let bytes = Sense::lba_out_of_range().encode(true);
    assert_eq!(bytes, [0x72, 5, 0x21, 0, 0, 0, 0, 0]);
    let sense = Sense::illegal_field_in_list(8).with_information(1 << 40);
    let bytes = sense.encode(true);
    assert_eq!(bytes[..8], [0x72, 5, 0x26, 0, 0, 0, 0, 20]);
    assert_eq!(bytes[8..20], [0, 0x0A, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[20..], [2, 6, 0, 0, 0x80, 0, 8, 0]);
}

#[test]
fn information_that_does_not_fit_is_left_out_of_the_fixed_format() {
    let bytes = Sense::miscompare(1 << 32).encode(false);
    assert_eq!((bytes[0], &bytes[3..7]), (0x70, &[0; 4][..]));
}

fn any_sense() -> impl Strategy<Value = Sense> {
    let key = (0_u8..16).prop_filter_map("a reserved key", SenseKey::from_code);
    let field = (any::<bool>(), any::<u16>(), proptest::option::of(0_u8..8))
        .prop_map(|(in_cdb, byte, bit)| FieldPointer { in_cdb, byte, bit });
    let information = proptest::option::of(any::<u64>());
    let progress = proptest::option::of(any::<u16>());
    (key, any::<(u8, u8)>(), information, proptest::option::of(field), progress).prop_map(
        |(key, (code, qualifier), information, field, progress)| {
            let busy = matches!(key, SenseKey::NoSense | SenseKey::NotReady);
            Sense {
                key,
                asc: Asc(code, qualifier),
                information,
                field: field.filter(|_| !busy),
                progress: progress.filter(|_| busy),
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(sense in any_sense()) {
        prop_assert_eq!(Sense::decode(&sense.encode(true)), Some(sense));
        let fits = sense.information.filter(|value| u32::try_from(*value).is_ok());
        let fixed = Sense { information: fits, ..sense };
        prop_assert_eq!(Sense::decode(&sense.encode(false)), Some(fixed));
    }

    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64),
                             form in 0x70_u8..0x74) {
        let mut bytes = bytes;
        let _ = Sense::decode(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = form;
        }
        let _ = Sense::decode(&bytes);
    }
}
