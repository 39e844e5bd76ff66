//! Documents in ConfigMaps.

use k8s_openapi::api::core::v1::ConfigMap;
use nearbench_operator::{DocumentError, pack, unpack};

fn stored(text: &str) -> ConfigMap {
    let packed = pack("report.json", text).unwrap();
    ConfigMap { data: Some(packed.data), binary_data: Some(packed.binary_data), ..ConfigMap::default() }
}

#[test]
fn small_documents_stay_readable_and_large_ones_fit() {
    let small = stored("{}");
    assert_eq!(small.data.as_ref().unwrap()["report.json"], "{}");
    assert_eq!(unpack(&small, "report.json").unwrap().as_deref(), Some("{}"));
    let text: String = (0..200_000).map(|n| format!("user-{n}.bench.test.near\n")).collect();
    let large = stored(&text);
    assert!(serde_json::to_string(&large).unwrap().len() < 1 << 20);
    assert_eq!(unpack(&large, "report.json").unwrap().as_deref(), Some(text.as_str()));
}

#[test]
fn what_no_object_can_hold_is_refused_with_its_size() {
    let mut state = 1u64;
    let noise: String = (0..2_000_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'!' + (state >> 33) as u8 % 90)
        })
        .collect();
    assert!(matches!(pack("report.json", &noise), Err(DocumentError::TooLarge { bytes, .. }) if bytes > 1 << 20));
}

#[test]
fn a_damaged_document_is_no_missing_one() {
    assert_eq!(unpack(&ConfigMap::default(), "report.json").unwrap(), None);
    let mut cut = stored(&"0123456789abcdef\n".repeat(100_000));
    cut.binary_data.as_mut().unwrap().get_mut("report.json.gz").unwrap().0.truncate(100);
    assert!(matches!(unpack(&cut, "report.json"), Err(DocumentError::Damaged { .. })));
}
