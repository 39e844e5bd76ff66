//! What became of an attempt that left no outcome: gathers the evidence that [`nearbench_core::settle`] judges. Changes
//! nothing, and sends nothing.

use nearbench_core::{
    Height,
    outcome::TxStatus,
    settle::{self, Crossing, DeathCertificate, KeyLook, Look, Past, Search, Subject},
};
use nearbench_near::{
    Client,
    chain::{At, Read},
    rpc::RpcError,
};
use nearbench_store::LaneKey;

/// Blocks of an attempt's life that are read whole where nobody knows its key's past, at most.
const MAX_BLOCKS_READ: u64 = 256;

/// What the chain shows of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It may still be included, or be in a block that is not final yet.
    MayLand,
    /// It moved nothing, and never will.
    Dead(DeathCertificate),
    /// It is in the final block of this height.
    Included(Height),
    /// It stands in a chunk of the final block of this height, and nobody tells whether it was valid there: one that was
    /// not used no nonce and made no receipt.
    Listed(Height),
    /// Nobody who was asked can tell: the blocks that would are collected, or the answers contradict each other.
    Unknowable,
}

/// Looks at the attempt's key in the last final block, and into the past where that is not enough.
pub(crate) async fn judge(client: &Client, lane: &LaneKey, subject: &Subject) -> Result<Judgement, RpcError> {
    let read = client.access_key(&lane.account, &lane.public_key, At::Final).await?;
    let key = KeyLook { height: read.height, nonce: read.value.map(|key| key.nonce) };
    let read = Read { height: read.height, block: read.block, value: key };
    match settle::look(subject, &key) {
        Look::MayLand => Ok(Judgement::MayLand),
        Look::Dead(certificate) => Ok(Judgement::Dead(certificate)),
        Look::SearchThePast => search(client, lane, subject, &read).await,
    }
}

/// Finds the block in which the key's nonce passed the attempt's.
async fn search(
    client: &Client,
    lane: &LaneKey,
    subject: &Subject,
    past: &Read<KeyLook>,
) -> Result<Judgement, RpcError> {
    let LaneKey { account, public_key } = lane;
    let mut crossing = Crossing::new(subject, &past.value);
    let height = loop {
        match crossing.next() {
            Search::LookAt(height) => crossing.saw(client.key_at_height(account, public_key, height).await?),
            Search::Found(height) => break height,
            Search::Collected(_) => return read_its_life(client, lane, subject, past).await,
        }
    };
    let Some(passing) = client.passing(account, public_key, height).await? else {
        return read_its_life(client, lane, subject, past).await;
    };
    Ok(match settle::passed(subject, &passing) {
        Past::Included => Judgement::Included(height),
        Past::Dead(certificate) => Judgement::Dead(certificate),
        Past::Contradiction => Judgement::Unknowable,
    })
}

/// Reads every block from the last final one back to the attempt's base, where somebody still has them all. Of a block that
/// lists it, the outcome recorded there tells whether it was valid: an invalid transaction is listed too.
async fn read_its_life(
    client: &Client,
    lane: &LaneKey,
    subject: &Subject,
    past: &Read<KeyLook>,
) -> Result<Judgement, RpcError> {
    if past.height.saturating_sub(subject.base) > MAX_BLOCKS_READ {
        return Ok(Judgement::Unknowable);
    }
    let mut listed = None;
    let mut hash = past.block;
    while let Some((block, signed)) = client.signed_in(&lane.account, hash).await? {
        if block.height <= subject.base {
            let absent = Judgement::Dead(DeathCertificate::Absent { to: past.height });
            return Ok(listed.map_or(absent, Judgement::Listed));
        }
        if signed.contains(&subject.hash) {
            let shown = client.shown_from_any(subject.hash, &lane.account).await?;
            match shown.status {
                TxStatus::Landed(_) => return Ok(Judgement::Included(block.height)),
                // It failed right here.
                TxStatus::Invalid(_) if shown.block == Some(block.hash) => {}
                _ => listed = Some(block.height),
            }
        }
        hash = block.prev_hash;
    }
    Ok(listed.map_or(Judgement::Unknowable, Judgement::Listed))
}
