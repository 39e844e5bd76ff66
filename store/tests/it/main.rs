//! What every backend must do, and the backends that do it.
#![allow(clippy::unwrap_used, missing_docs)]

mod conformance;
mod disk;
mod file;
mod records;

#[test]
fn the_memory_store_conforms() {
    conformance::suite(nearbench_store::MemoryStore::default);
}

#[test]
fn the_file_store_conforms_and_survives_crashes() {
    conformance::suite(conformance::OnDisk::default);
}
