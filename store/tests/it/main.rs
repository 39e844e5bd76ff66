//! What every backend must do, and the backends that do it.
#![allow(clippy::unwrap_used, missing_docs)]

mod conformance;

#[test]
fn the_memory_store_conforms() {
    conformance::suite(nearbench_store::MemoryStore::default);
}

#[test]
fn the_file_store_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    conformance::suite(|| {
        count.set(count.get() + 1);
        nearbench_store::FileStore::create(&folder.path().join(count.get().to_string())).unwrap()
    });
}
