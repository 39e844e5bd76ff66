//! Steps as transactions, and their outcomes. A step is done when every receipt of it succeeded in a final block.

use super::{
    Desired, Journal, Progress, ProvisionError, Step,
    journal::Entry,
    observe::Observed,
    plan::{DEPLOY_GAS, REGISTRATION_GAS},
};
use crate::{
    Client, Signer,
    chain::{SendError, Wait},
    rpc::RpcError,
    transaction::{SignedTx, sign_actions},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use near_crypto::PublicKey;
use near_primitives::{
    account::AccessKey,
    action::{
        Action, AddKeyAction, CreateAccountAction, DeleteKeyAction, DeployContractAction, FunctionCallAction,
        TransferAction,
    },
    types::{Balance, Gas as NearGas},
};
use nearbench_core::{
    Account, Near, Nonce,
    outcome::{BlockRef, Execution, Refusal, TxStatus},
    plan::Deploy,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// Transactions under way at once. They are sent in the order of their nonces.
const IN_FLIGHT: usize = 8;
/// How often a transaction's bytes are sent before its outcome counts as unknown; each waits some 10 s.
const TRIES: usize = 12;

/// Where steps stand among all of a provisioning, who hears of them, and what ends them.
pub(super) struct Course<'a> {
    /// Once cancelled, nothing more is sent.
    pub(super) stop: &'a CancellationToken,
    pub(super) progress: &'a (dyn Fn(Progress<'_>) + Sync),
    /// Steps that are done already.
    pub(super) before: usize,
    /// Steps in all.
    pub(super) of: usize,
}

/// Takes the steps, each signed by who may, until all are done or the course ends; how many were.
pub(super) async fn apply(
    client: &Client,
    desired: &Desired,
    journal: Option<&dyn Journal>,
    observed: &Observed,
    steps: &[Step],
    course: &Course<'_>,
) -> Result<usize, ProvisionError> {
    let parent = desired.create_from.as_ref().zip(observed.parent.as_ref());
    let parent = parent.and_then(|((signer, _), (_, key))| Some((signer, key.as_ref()?.nonce)));
    let master = desired.master.as_ref().zip(observed.master.as_ref()).map(|(signer, key)| (signer, key.nonce));
    let (mut signed, mut last) = (Vec::with_capacity(steps.len()), 0);
    for step in steps {
        let signer = if *step == Step::CreateAccount { parent } else { master };
        let Some((signer, key_nonce)) = signer else {
            return Err(ProvisionError::Unknown { step: step.to_string() });
        };
        let (receiver, actions) = actions(desired, step);
        let sign = |nonce, base| sign_actions(signer, &receiver, &actions, nonce, &base);
        let next = key_nonce.max(last) + 1;
        let (tx, nonce) = match (journal, step.once()) {
            (Some(journal), Some(name)) => {
                let once = Once { client, journal, name, step, signer, key_nonce, observed };
                once.signed(next, &sign).await?
            }
            _ => (sign(next, observed.base), next),
        };
        last = last.max(nonce);
        signed.push((step, signer, tx));
    }
    submit(client, &signed, course).await
}

/// A step whose bytes are in a journal before they are sent.
struct Once<'a> {
    client: &'a Client,
    journal: &'a dyn Journal,
    /// What the journal calls it.
    name: &'static str,
    step: &'a Step,
    signer: &'a Signer,
    /// Its key's nonce, as observed.
    key_nonce: Nonce,
    observed: &'a Observed,
}

impl Once<'_> {
    /// What an earlier provisioning signed for it, where that may land or did; else what `sign` makes with the `next` nonce.
    async fn signed(
        &self,
        next: Nonce,
        sign: &(dyn Fn(Nonce, BlockRef) -> SignedTx + Sync),
    ) -> Result<(SignedTx, Nonce), ProvisionError> {
        let Observed { base, limits, .. } = self.observed;
        let broken = |source| ProvisionError::Journal { step: self.step.to_string(), source };
        if let Some(kept) = self.journal.load(self.name).await.map_err(broken)?.as_ref().and_then(Entry::read)
            // The same step by the same key: signing is deterministic.
            && sign(kept.nonce, BlockRef { hash: kept.base, ..*base }) == kept.tx
            && self.counts(&kept).await?
        {
            return Ok((kept.tx, kept.nonce));
        }
        let tx = sign(next, *base);
        let expiry = base.height.saturating_add(limits.transaction_validity_period);
        self.journal.store(self.name, Entry::write(&tx, expiry)).await.map_err(broken)?;
        Ok((tx, next))
    }

    /// Whether what was signed earlier can still land, or has. All else than success leaves the step to be done.
    async fn counts(&self, kept: &Entry) -> Result<bool, ProvisionError> {
        if kept.nonce > self.key_nonce {
            return Ok(self.observed.base.height <= kept.expiry);
        }
        // Something moved the key there: these bytes, whose receipts may be on their way, or others.
        match confirm(self.client, self.step, self.signer.account(), &kept.tx).await {
            Ok(()) => Ok(true),
            Err(
                ProvisionError::Failed { .. }
                | ProvisionError::Refused { refusal: Refusal::NonceTooLow { .. } | Refusal::Expired, .. },
            ) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Takes steps that remove keys.
pub(super) async fn removals(
    client: &Client,
    master: &Signer,
    nonce: Nonce,
    base: &BlockRef,
    steps: &[Step],
    course: &Course<'_>,
) -> Result<(), ProvisionError> {
    let signed = (1..).zip(steps).map(|(offset, step)| {
        let actions = match step {
            Step::RemoveKeys(keys) => public_keys(keys).map(delete_key).collect(),
            _ => Vec::new(),
        };
        (step, master, sign_actions(master, master.account(), &actions, nonce + offset, base))
    });
    submit(client, &signed.collect::<Vec<_>>(), course).await.map(drop)
}

async fn submit(
    client: &Client,
    signed: &[(&Step, &Signer, SignedTx)],
    course: &Course<'_>,
) -> Result<usize, ProvisionError> {
    let mut done = 0;
    for group in signed.chunks(IN_FLIGHT) {
        if course.stop.is_cancelled() {
            break;
        }
        let (mut sent, mut refused) = (0, None);
        for (step, _, tx) in group {
            match client.send(tx).await {
                // What got no answer is sent again while its outcome is awaited.
                Ok(()) | Err(SendError::Unanswered(_)) => sent += 1,
                Err(SendError::Refused(refusal)) => {
                    refused = Some(ProvisionError::Refused { step: step.to_string(), refusal });
                    break;
                }
            }
        }
        let mut confirmed = stream::iter(&group[..sent])
            .map(|(step, signer, tx)| async move { confirm(client, step, signer.account(), tx).await.map(|()| *step) })
            .buffered(IN_FLIGHT);
        while let Some(step) = confirmed.try_next().await? {
            done += 1;
            (course.progress)(Progress::Done { step, number: course.before + done, of: course.of });
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
    }
    Ok(done)
}

/// Awaits a transaction's end; the same bytes go out again as long as nobody knows them.
async fn confirm(client: &Client, step: &Step, sender: &Account, tx: &SignedTx) -> Result<(), ProvisionError> {
    let mut trouble = None;
    for _ in 0..TRIES {
        match client.resend_and_learn(tx, sender).await {
            Ok(TxStatus::Landed(_)) => {}
            Ok(
                TxStatus::Unknown | TxStatus::Pending | TxStatus::Invalid(Refusal::Congested { .. } | Refusal::Node(_)),
            ) => continue,
            Ok(TxStatus::Invalid(refusal)) => {
                return Err(ProvisionError::Refused { step: step.to_string(), refusal });
            }
            Err(error) => {
                trouble = Some(error);
                continue;
            }
        }
        match finished(client, sender, tx).await {
            Ok(Some(Execution::Success)) => return Ok(()),
            Ok(Some(execution)) => {
                return Err(ProvisionError::Failed { step: step.to_string(), execution });
            }
            Ok(None) => {}
            Err(error) => trouble = Some(error),
        }
    }
    Err(trouble.map_or_else(|| ProvisionError::Unknown { step: step.to_string() }, ProvisionError::Rpc))
}

/// How all of a transaction's receipts ended, once they are in final blocks.
async fn finished(client: &Client, sender: &Account, tx: &SignedTx) -> Result<Option<Execution>, RpcError> {
    match client.tx_view(tx.hash, sender, Wait::Final).await {
        Ok(view) => Ok(match view.status(tx.hash, sender) {
            TxStatus::Landed(_) => Some(view.any_failure(sender).unwrap_or(Execution::Success)),
            _ => None,
        }),
        Err(error) if error.fault.caused_by(&["TIMEOUT_ERROR", "UNKNOWN_TRANSACTION"]).is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whom a step is sent to, and what it does there.
fn actions(desired: &Desired, step: &Step) -> (Account, Vec<Action>) {
    let master = desired.master.as_ref().map(|signer| signer.public_key().to_owned());
    match step {
        Step::CreateAccount => {
            let initial = desired.create_from.as_ref().map_or(Near(0), |(_, initial)| *initial);
            let mut actions = vec![Action::CreateAccount(CreateAccountAction {}), transfer(initial)];
            actions.extend(public_keys(master.as_slice()).map(add_key));
            (desired.account.clone(), actions)
        }
        Step::AddKeys(keys) => (desired.account.clone(), public_keys(keys).map(add_key).collect()),
        Step::RemoveKeys(keys) => (desired.account.clone(), public_keys(keys).map(delete_key).collect()),
        Step::Register { accounts, deposit, .. } => {
            let register = |account| {
                let args = json!({ "account_id": account, "registration_only": true });
                call("storage_deposit", &args, REGISTRATION_GAS, *deposit)
            };
            (desired.token.clone(), accounts.iter().map(register).collect())
        }
        Step::DeployToken { balance } => {
            let mut actions = vec![Action::CreateAccount(CreateAccountAction {}), transfer(*balance)];
            actions.extend(public_keys(master.as_slice()).map(add_key));
            if let Some((Deploy { total_supply, mint }, wasm)) = &desired.deploy {
                actions.push(Action::DeployContract(DeployContractAction { code: wasm.to_vec() }));
                let owner = &desired.account;
                let new = json!({ "owner_id": owner, "total_supply": total_supply });
                actions.push(call("new", &new, DEPLOY_GAS, Near(0)));
                if mint.0 > 0 {
                    let args = json!({ "account_id": owner, "amount": mint });
                    actions.push(call("ft_mint", &args, DEPLOY_GAS, Near(0)));
                }
            }
            (desired.token.clone(), actions)
        }
    }
}

/// Keys that the chain or a signer named, or that planning has read before.
fn public_keys(texts: &[String]) -> impl Iterator<Item = PublicKey> {
    texts.iter().filter_map(|text| text.parse().ok())
}

fn add_key(public_key: PublicKey) -> Action {
    Action::AddKey(Box::new(AddKeyAction { public_key, access_key: AccessKey::full_access() }))
}

fn delete_key(public_key: PublicKey) -> Action {
    Action::DeleteKey(Box::new(DeleteKeyAction { public_key }))
}

fn transfer(amount: Near) -> Action {
    Action::Transfer(TransferAction { deposit: Balance::from_yoctonear(amount.0) })
}

fn call(method: &str, args: &serde_json::Value, gas: nearbench_core::Gas, deposit: Near) -> Action {
    Action::FunctionCall(Box::new(FunctionCallAction {
        method_name: method.to_owned(),
        args: args.to_string().into_bytes(),
        gas: NearGas::from_gas(gas),
        deposit: Balance::from_yoctonear(deposit.0),
    }))
}
