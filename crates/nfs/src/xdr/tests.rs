//! The macros' types are public, as the protocols' are.
#![allow(unreachable_pub, dead_code)]

use super::*;
use proptest::prelude::*;

xdr_struct! {
    pub struct Sample {
        pub small: u32,
        pub large: u64,
        pub signed: i64,
        pub flag: bool,
        pub fixed: [u8; 5],
        pub data: Bytes,
        pub short: Short,
        pub maybe: Option<u32>,
        pub list: Vec<Colour>,
        pub choice: Choice,
    }
}
xdr_enum! {
    pub enum Colour {
        Red = 2,
        Blue = 7,
    }
}
xdr_union! {
    pub enum Choice {
        Nothing = 0,
        Number(number: u64) = 1,
        Pair(pair: (u32, bool)) = 4,
    }
}
xdr_opaque! {
    pub struct Short(8);
}

fn sample() -> impl Strategy<Value = Sample> {
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from);
    let colour = prop_oneof![Just(Colour::Red), Just(Colour::Blue)];
    let choice = prop_oneof![
        Just(Choice::Nothing),
        any::<u64>().prop_map(Choice::Number),
        any::<(u32, bool)>().prop_map(Choice::Pair)
    ];
    let numbers = (any::<u32>(), any::<u64>(), any::<i64>(), any::<bool>(), any::<[u8; 5]>());
    let rest =
        (bytes(5000), bytes(9), any::<Option<u32>>(), prop::collection::vec(colour, 0..5), choice);
    (numbers, rest).prop_map(|(numbers, rest)| {
        let (small, large, signed, flag, fixed) = numbers;
        let (data, short, maybe, list, choice) = rest;
        let short = Short(short);
        Sample { small, large, signed, flag, fixed, data, short, maybe, list, choice }
    })
}

proptest! {
    #[test]
    fn every_type_reads_what_it_wrote(value in sample()) {
        let bytes = to_bytes(&value);
        prop_assert_eq!(bytes.len() % UNIT_BYTES, 0);
        prop_assert_eq!(from_bytes::<Sample>(bytes.clone()), Ok(value.clone()));
        let mut writer = Writer::default();
        writer.put(&value);
        prop_assert_eq!(writer.len(), bytes.len());
        prop_assert_eq!(Bytes::from(writer.finish().concat()), bytes);
    }

    #[test]
    fn a_cut_message_is_short_and_never_a_panic(value in sample(), keep in 0.0..1.0f64) {
        let bytes = to_bytes(&value);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let keep = (bytes.len() as f64 * keep) as usize;
        prop_assert_eq!(from_bytes::<Sample>(bytes.slice(..keep)), Err(XdrError::Short));
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = from_bytes::<Sample>(bytes.into()) {
            prop_assert_eq!(from_bytes::<Sample>(to_bytes(&value)), Ok(value));
        }
    }
}

#[test]
fn the_bytes_are_those_of_the_standard() {
    // RFC 4506 7: the file record of the example, here with the names of that document.
    xdr_struct! {
        pub struct File {
            pub name: Bytes,
            pub kind: (u32, Bytes),
            pub owner: Bytes,
            pub data: Bytes,
        }
    }
    let text = Bytes::from_static;
    let file = File {
        name: text(b"sillyprog"),
        kind: (2, text(b"lisp")),
        owner: text(b"john"),
        data: text(b"(quit)"),
    };
    let bytes =
        b"\0\0\0\x09sillyprog\0\0\0\0\0\0\x02\0\0\0\x04lisp\0\0\0\x04john\0\0\0\x06(quit)\0\0";
    assert_eq!(to_bytes(&file), &bytes[..]);
    assert_eq!(from_bytes::<File>(text(bytes)), Ok(file));
}

#[test]
fn a_length_without_bytes_behind_it_takes_no_memory() {
    let huge = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff]);
    assert_eq!(from_bytes::<Bytes>(huge.clone()), Err(XdrError::Short));
    assert_eq!(from_bytes::<Vec<u32>>(huge.clone()), Err(XdrError::Short));
    assert_eq!(from_bytes::<Vec<Bytes>>(huge.clone()), Err(XdrError::Short));
    assert_eq!(from_bytes::<Short>(huge), Err(XdrError::TooLong));
}

#[test]
fn numbers_outside_a_type_are_refused() {
    let two = Bytes::from_static(&[0, 0, 0, 2]);
    assert_eq!(from_bytes::<bool>(two.clone()), Err(XdrError::BadValue));
    assert_eq!(from_bytes::<Option<u32>>(two.clone()), Err(XdrError::BadValue));
    assert_eq!(from_bytes::<Choice>(two.clone()), Err(XdrError::BadValue));
    assert_eq!(from_bytes::<Colour>(two), Ok(Colour::Red));
    assert_eq!(from_bytes::<Colour>(Bytes::from_static(&[0; 4])), Err(XdrError::BadValue));
    assert_eq!(from_bytes::<u32>(Bytes::from_static(&[0; 5])), Err(XdrError::Trailing));
}

#[test]
fn large_data_is_passed_on_without_a_copy() {
    let data = Bytes::from(vec![7; SHARED_BYTES_MIN + 1]);
    let (mut writer, mut inner) = (Writer::default(), Writer::default());
    writer.u32(1);
    inner.payload(&data);
    writer.append(inner);
    writer.u32(2);
    let pieces = writer.finish();
    assert_eq!(pieces.iter().filter(|piece| piece.as_ptr() == data.as_ptr()).count(), 1);
    let all = Bytes::from(pieces.concat());
    assert_eq!(from_bytes::<(u32, (Bytes, u32))>(all), Ok((1, (data, 2))));
}

/// What is written, as steps: each is done by a writer, and by a vector that knows nothing of pieces.
#[derive(Clone, Debug)]
enum Write {
    Number(u32),
    Data(usize),
    Mark,
    Rewind(usize),
    Set(usize, u32),
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let one = prop_oneof![
        any::<u32>().prop_map(Write::Number),
        prop_oneof![0..40_usize, SHARED_BYTES_MIN - 2..SHARED_BYTES_MIN + 9].prop_map(Write::Data),
        Just(Write::Mark),
        any::<usize>().prop_map(Write::Rewind),
        (any::<usize>(), any::<u32>()).prop_map(|(at, value)| Write::Set(at, value)),
    ];
    proptest::collection::vec(one, 0..40)
}

proptest! {
    #[test]
    fn what_is_taken_back_or_written_over_leaves_the_rest_as_it_was(writes in writes()) {
        let (mut writer, mut model) = (Writer::default(), Vec::new());
        // Places, each with a number behind it.
        let mut marks = vec![];
        for (turn, write) in writes.into_iter().enumerate() {
            let number = |writer: &mut Writer, model: &mut Vec<u8>, value: u32| {
                writer.u32(value);
                model.extend_from_slice(&value.to_be_bytes());
            };
            match write {
                Write::Number(value) => number(&mut writer, &mut model, value),
                Write::Data(length) => {
                    let data = vec![u8::try_from(turn).unwrap(); length];
                    writer.payload(&data.clone().into());
                    model.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
                    model.extend_from_slice(&data);
                    model.resize(model.len().next_multiple_of(4), 0);
                }
                Write::Mark => {
                    marks.push((writer.mark(), model.len()));
                    number(&mut writer, &mut model, 7);
                }
                Write::Rewind(_) | Write::Set(..) if marks.is_empty() => {}
                Write::Rewind(which) => {
                    let which = which % marks.len();
                    let (mark, at) = marks[which];
                    prop_assert_eq!(&writer.piece_since(mark)[..], &model[at..]);
                    writer.rewind(mark);
                    model.truncate(at);
                    marks.truncate(which);
                }
                Write::Set(which, value) => {
                    let (mark, at) = marks[which % marks.len()];
                    writer.set_u32(mark, value);
                    model[at..at + 4].copy_from_slice(&value.to_be_bytes());
                }
            }
            prop_assert_eq!(writer.len(), model.len());
            for (mark, at) in &marks {
                prop_assert_eq!(writer.since(*mark), model.len() - at);
            }
        }
        prop_assert_eq!(writer.finish().concat(), model);
    }
}
