//! Transactions: transfers written straight into nearcore's borsh form, and signed.
//!
//! Layout: nearcore, `core/primitives/src/transaction.rs`: `TransactionV0` without a version tag, then the signature;
//! what is signed and what names the transaction is the SHA-256 of the first part.

use crate::Signer;
use base64::Engine;
use bytes::Bytes;
use near_primitives::{
    transaction::{Action, TransferAction},
    types::Balance,
};
use nearbench_core::{Account, Gas, Hash, Nonce, Transfer, outcome::BlockRef, transfer::MAX_MEMO_BYTES};
use sha2::{Digest, Sha256};
use std::io::Write;

const ED25519: u8 = 0;
const FUNCTION_CALL: u8 = 2;
const METHOD: &[u8] = b"ft_transfer";
/// Of the characters of a memo, those that JSON writes with a backslash before them.
const ESCAPED: [char; 2] = ['"', '\\'];
/// NEP-141 demands exactly this with `ft_transfer`, in yoctoNEAR; only a full-access key can attach it.
const DEPOSIT: u128 = 1;
const MAX_ACCOUNT_BYTES: usize = 64;
const MAX_AMOUNT_DIGITS: usize = 39;
/// What a client's memo adds, with a space before it; of the characters that it may hold, JSON writes none with more than
/// two bytes each.
const MAX_MEMO_TEXT_BYTES: usize = 1 + 2 * MAX_MEMO_BYTES;
/// An action without its receiver's and amount's text: tag, method, args and their lengths, gas, deposit.
const BARE_ACTION_BYTES: usize =
    1 + 4 + METHOD.len() + 4 + r#"{"receiver_id":"","amount":"","memo":""}"#.len() + 32 + 8 + 16;
/// A transaction without its actions and its two account ids: lengths, key, nonce, base block, signature.
const BARE_TRANSACTION_BYTES: usize = 4 + 33 + 8 + 4 + 32 + 4 + 65;

/// The largest `ft_transfer` action, in bytes.
pub const MAX_TRANSFER_ACTION_BYTES: usize =
    BARE_ACTION_BYTES + MAX_ACCOUNT_BYTES + MAX_AMOUNT_DIGITS + MAX_MEMO_TEXT_BYTES;
/// The largest transaction without its actions, signature included, in bytes.
pub const MAX_ENVELOPE_BYTES: usize = BARE_TRANSACTION_BYTES + 2 * MAX_ACCOUNT_BYTES;

/// A signed transaction. The same bytes have the same hash, whenever and wherever they are sent.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedTx {
    /// Its name on chain.
    pub hash: Hash,
    /// Its borsh form.
    pub bytes: Bytes,
}

impl std::fmt::Debug for SignedTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.hash, self.bytes.len())
    }
}

impl SignedTx {
    /// Appends the bytes as base64.
    pub(crate) fn write_base64(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.bytes.len().div_ceil(3) * 4, 0);
        // The slice has just been made as large as base64 makes three bytes of four.
        let written = base64::engine::general_purpose::STANDARD.encode_slice(&self.bytes, &mut out[start..]);
        out.truncate(start + written.unwrap_or(0));
    }
}

/// The exact size of one transfer's action, in bytes.
fn transfer_action_size(transfer: &Transfer) -> usize {
    let digits = transfer.amount.0.checked_ilog10().map_or(1, |log| log as usize + 1);
    let memo = transfer.memo.as_ref().map_or(0, |memo| 1 + memo.len() + memo.matches(ESCAPED).count());
    BARE_ACTION_BYTES + transfer.receiver.len() + digits + memo
}

/// One transaction of `ft_transfer`s to `token`, signed: one action a transfer, in their order, `gas_each` and 1 yoctoNEAR
/// attached to each, its memo the transfer's id and what the client wrote. Valid until `base`'s height plus the chain's validity period.
pub fn sign_transfers(
    signer: &Signer,
    token: &Account,
    transfers: &[Transfer],
    gas_each: Gas,
    nonce: Nonce,
    base: &BlockRef,
) -> SignedTx {
    let actions: usize = transfers.iter().map(transfer_action_size).sum();
    let mut out = Vec::with_capacity(BARE_TRANSACTION_BYTES + signer.account().len() + token.len() + actions);
    write_head(&mut out, signer, token, nonce, base);
    write_length(&mut out, transfers.len());
    for transfer in transfers {
        write_transfer(&mut out, transfer, gas_each);
    }
    finish(out, signer)
}

/// A fence, signed: no NEAR, sent to oneself. Once it is in a block, its key's nonce is past every lower one. Measured on
/// nearcore: 3 s to finality, 0.67 Tgas.
pub fn sign_fence(signer: &Signer, nonce: Nonce, base: &BlockRef) -> SignedTx {
    let nothing = Action::Transfer(TransferAction { deposit: Balance::ZERO });
    sign_actions(signer, signer.account(), &[nothing], nonce, base)
}

/// One transaction of any actions, signed. For provisioning: not the hot path.
pub(crate) fn sign_actions(
    signer: &Signer,
    receiver: &Account,
    actions: &[Action],
    nonce: Nonce,
    base: &BlockRef,
) -> SignedTx {
    let mut out = Vec::new();
    write_head(&mut out, signer, receiver, nonce, base);
    // Writing borsh into memory cannot fail.
    let _ = borsh::to_writer(&mut out, actions);
    finish(out, signer)
}

fn write_head(out: &mut Vec<u8>, signer: &Signer, receiver: &Account, nonce: Nonce, base: &BlockRef) {
    write_bytes(out, signer.account().as_bytes());
    out.push(ED25519);
    out.extend_from_slice(&signer.public_key_bytes());
    out.extend_from_slice(&nonce.to_le_bytes());
    write_bytes(out, receiver.as_bytes());
    out.extend_from_slice(&base.hash.0);
}

fn write_transfer(out: &mut Vec<u8>, transfer: &Transfer, gas: Gas) {
    out.push(FUNCTION_CALL);
    write_bytes(out, METHOD);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    // An account id needs no escaping in JSON; writing into memory cannot fail.
    let _ = write!(
        out,
        r#"{{"receiver_id":"{}","amount":"{}","memo":"{}"#,
        transfer.receiver, transfer.amount, transfer.id
    );
    if let Some(memo) = &transfer.memo {
        out.push(b' ');
        for byte in memo.bytes() {
            if ESCAPED.contains(&(byte as char)) {
                out.push(b'\\');
            }
            out.push(byte);
        }
    }
    out.extend_from_slice(br#""}"#);
    let length = (out.len() - length_at - 4) as u32;
    out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&gas.to_le_bytes());
    out.extend_from_slice(&DEPOSIT.to_le_bytes());
}

fn finish(mut out: Vec<u8>, signer: &Signer) -> SignedTx {
    let hash = Hash(Sha256::digest(&out).into());
    out.push(ED25519);
    out.extend_from_slice(&signer.sign(&hash.0));
    SignedTx { hash, bytes: out.into() }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn write_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(&(length as u32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use near_primitives::{
        hash::CryptoHash,
        transaction::{FunctionCallAction, SignedTransaction, Transaction, TransactionV0},
        types::{Balance, Gas as NearGas},
    };
    use nearbench_core::{Amount, Memo, TransferId};
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn account() -> impl Strategy<Value = Account> {
        "[a-z0-9]{2,20}(-[a-z0-9]{1,10})?(\\.[a-z0-9]{1,12}){0,2}".prop_map(|id| Account::new(&id).unwrap())
    }

    fn transfer() -> impl Strategy<Value = Transfer> {
        let amount = prop_oneof![Just(0), any::<u64>().prop_map(u128::from), Just(u128::MAX), any::<u128>()];
        let memo = prop::option::of(r#"[a-zé"\\/]{1,40}"#.prop_map(|text| Memo::new(&text).unwrap()));
        (any::<[u8; 16]>(), account(), amount, memo).prop_map(|(id, receiver, amount, memo)| Transfer {
            id: TransferId(id),
            receiver,
            amount: Amount(amount),
            memo,
            sequence: 0,
            phase: 0,
            intended_ns: 0,
            sent_ns: 0,
        })
    }

    /// The same transaction through nearcore's published types.
    fn by_near_primitives(
        signer: &Signer,
        token: &Account,
        transfers: &[Transfer],
        gas: Gas,
        nonce: Nonce,
        base: Hash,
    ) -> SignedTransaction {
        let actions = transfers
            .iter()
            .map(|t| {
                let memo = match &t.memo {
                    None => t.id.to_string(),
                    Some(memo) => format!("{} {}", t.id, &**memo),
                };
                let memo = serde_json::to_string(&memo).unwrap();
                let args = format!(r#"{{"receiver_id":"{}","amount":"{}","memo":{memo}}}"#, t.receiver, t.amount);
                Action::FunctionCall(Box::new(FunctionCallAction {
                    method_name: "ft_transfer".to_owned(),
                    args: args.into_bytes(),
                    gas: NearGas::from_gas(gas),
                    deposit: Balance::from_yoctonear(1),
                }))
            })
            .collect();
        let transaction = Transaction::V0(TransactionV0 {
            signer_id: signer.account().parse().unwrap(),
            public_key: signer.public_key().parse().unwrap(),
            nonce,
            receiver_id: token.parse().unwrap(),
            block_hash: CryptoHash(base.0),
            actions,
        });
        let secret: near_crypto::SecretKey = signer.secret().expose().parse().unwrap();
        let signature = secret.sign(transaction.get_hash_and_size().0.as_ref());
        SignedTransaction::new(signature, transaction)
    }

    proptest! {
        #[test]
        fn transfers_are_byte_for_byte_what_nearcores_own_types_write(
            seed: u64, gas: u64, nonce: u64, base: [u8; 32],
            sender in account(), token in account(),
            transfers in proptest::collection::vec(transfer(), 0..20),
        ) {
            let signer = Signer::generate(sender, &mut StdRng::seed_from_u64(seed));
            let block = BlockRef { height: 1, hash: Hash(base), prev_hash: Hash::default(), timestamp_ns: 0 };
            let ours = sign_transfers(&signer, &token, &transfers, gas, nonce, &block);
            let theirs = by_near_primitives(&signer, &token, &transfers, gas, nonce, Hash(base));

            prop_assert_eq!(&ours.bytes[..], borsh::to_vec(&theirs).unwrap());
            prop_assert_eq!(ours.hash.0, theirs.get_hash().0);
            prop_assert_eq!(&sign_actions(&signer, &token, theirs.transaction.actions(), nonce, &block), &ours);
            let sizes: usize = transfers.iter().map(transfer_action_size).sum();
            prop_assert_eq!(ours.bytes.len(), BARE_TRANSACTION_BYTES + signer.account().len() + token.len() + sizes);
            prop_assert!(sizes <= transfers.len() * MAX_TRANSFER_ACTION_BYTES);

            let mut base64 = b"x".to_vec();
            ours.write_base64(&mut base64);
            let expected = base64::engine::general_purpose::STANDARD.encode(&ours.bytes);
            prop_assert_eq!(&base64[1..], expected.as_bytes());
        }
    }
}
