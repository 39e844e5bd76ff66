//! What every backend must do, and the backends that do it.
#![allow(clippy::unwrap_used, missing_docs)]

mod conformance;
mod disk;
mod file;
mod records;
mod redis;
mod spool;

#[test]
fn the_memory_store_conforms() {
    conformance::suite(1, async || nearbench_store::MemoryStore::default());
}

#[test]
fn the_file_store_conforms_and_survives_crashes() {
    conformance::suite(1, async || conformance::OnDisk::default());
}

#[test]
fn the_redis_store_conforms_whoever_ends() {
    let server = redis::Server::start(&[]);
    conformance::suite(1, async || redis::InRedis::on(&server).await);
}

#[test]
fn the_redis_store_conforms_through_kills_of_the_server() {
    // A history kills the server several times.
    conformance::suite(16, async || redis::InRedis::that_is_killed().await);
}
