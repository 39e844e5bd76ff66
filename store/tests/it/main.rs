//! What every backend must do, and the backends that do it.
#![allow(clippy::unwrap_used, missing_docs)]

mod conformance;

#[test]
fn the_memory_store_conforms() {
    conformance::suite(nearbench_store::MemoryStore::default);
}
