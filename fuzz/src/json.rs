//! Values that are written as JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What was understood is understood again from how we write it ourselves.
///
/// # Panics
/// When it is not: that is a find.
pub fn read<T: Serialize + DeserializeOwned>(body: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(body) else { return };
    let written = serde_json::to_value(&value).expect("what was read can be written");
    let again: T = serde_json::from_value(written.clone()).expect("and read");
    assert_eq!(serde_json::to_value(&again).expect("and written again"), written);
}
