//! The engine of the fleet: claim, batch, sign, persist, send, confirm, settle.
//!
//! It owns lanes by lease, never sends what is not stored, never signs a transfer anew without proof that its last
//! attempt moved nothing, and settles only by final blocks. What a settlement is, `nearbench-core` decides; what the
//! chain says, `nearbench-near` reads; this room is the shell between them. It reads the resolved plan, never a
//! manifest.

mod api;
mod clock;
mod confirm;
mod engine;
mod finality;
pub mod fleet;
mod ids;
mod judge;
mod lane;
mod pacer;
pub mod recover;
mod sent;
mod spool;
mod tally;

pub use api::{
    Api, Grant, Keys, ListenError, MAX_BATCH, MetricsText, Scope, ServeError, Settings, Stamp, Stamper, Tokens,
    TokensError, may_listen, openapi, serve,
};
pub use engine::{Drained, Engine, EngineError, LEASE, Setup};
pub use finality::{Finality, FinalityError};
pub use spool::{Carried, Spool, SpoolBounds, Spooled};
pub use tally::{Mishaps, Tally};
