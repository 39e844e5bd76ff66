//! What a running contract sees of the chain: its storage, with nearcore's charges for it, and the receipts it makes.
//! Source: nearcore `runtime/runtime/src/ext.rs`.

use near_crypto::PublicKey;
use near_primitives::account::{AccessKey, AccessKeyPermission, FunctionCallPermission};
use near_primitives::action::{AddKeyAction, DeleteAccountAction, DeleteKeyAction, StakeAction};
use near_primitives::hash::{CryptoHash, YieldId};
use near_primitives::transaction::{
    Action, CreateAccountAction, DeployContractAction, FunctionCallAction, TransferAction,
};
use near_primitives::trie_key::TrieKey;
use near_primitives::types::{AccountId, Balance, Gas, GasWeight, Nonce, NonceIndex};
use near_primitives::universal_state_init::{
    DecodeMode, RawStateInit, StateInitError, UniversalStateInit, UniversalStateInitCounts, state_init_send_counts,
};
use near_primitives::utils::create_receipt_id_from_action_hash;
use near_vm_runner::logic::errors::AnyError;
use near_vm_runner::logic::types::{ActionIndex, GlobalContractDeployMode, GlobalContractIdentifier, ReceiptIndex};
use near_vm_runner::logic::{External, HostError, StorageAccessTracker, VMLogicError, ValuePtr};

use super::promises::Promises;
use crate::state::{Found, Update, Value};

type Result<T, E = VMLogicError> = std::result::Result<T, E>;

/// A host function that devnet does not offer, called by a contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("devnet does not execute {0}")]
pub(super) struct Unsupported(pub(super) &'static str);

fn unsupported<T>(what: &'static str) -> Result<T> {
    Err(VMLogicError::ExternalError(AnyError::new(Unsupported(what))))
}

/// The chain as one call of one contract sees it.
pub(super) struct ContractExternal<'a> {
    state: &'a mut Update,
    account_id: AccountId,
    chain_id: &'a str,
    action_hash: CryptoHash,
    height: u64,
    data_count: u64,
    pub(super) promises: Promises,
    /// The first unsupported action a contract put into a receipt; the call fails for it.
    pub(super) refused: Option<Unsupported>,
}

impl<'a> ContractExternal<'a> {
    pub(super) fn new(
        state: &'a mut Update,
        account_id: AccountId,
        chain_id: &'a str,
        action_hash: CryptoHash,
        height: u64,
    ) -> Self {
        let (promises, refused) = (Promises::default(), None);
        Self { state, account_id, chain_id, action_hash, height, data_count: 0, promises, refused }
    }

    fn key(&self, key: &[u8]) -> Vec<u8> {
        TrieKey::ContractData { account_id: self.account_id.clone(), key: key.to_vec() }.to_vec()
    }

    /// The value that a write or a removal displaces. Nearcore looks it up in the trie, and charges for the nodes on
    /// the way and for the value, unless the key was already written in this chunk.
    fn displaced(&self, tracker: &mut dyn StorageAccessTracker, key: &[u8]) -> Result<Option<Value>> {
        match self.state.find(key) {
            Found::InChunk(value) => Ok(value.cloned()),
            Found::Before(value) => {
                let nodes = self.state.base().trie_nodes(key) + u64::from(value.is_some());
                // Since protocol 82 a node costs the same whether it was touched before in the chunk or not.
                tracker.trie_node_touched(nodes)?;
                Ok(value.cloned())
            }
        }
    }

    fn refuse(&mut self, what: &'static str) {
        self.refused.get_or_insert(Unsupported(what));
    }
}

/// A value found by a read, charged for when it is taken.
struct Read {
    value: Value,
    touches: bool,
}

impl ValuePtr for Read {
    fn len(&self) -> u32 {
        u32::try_from(self.value.len()).unwrap_or(u32::MAX)
    }

    fn deref(&self, tracker: &mut dyn StorageAccessTracker) -> Result<Vec<u8>> {
        if self.touches {
            tracker.trie_node_touched(1)?;
        }
        Ok(self.value.to_vec())
    }
}

fn method_name(name: Vec<u8>) -> Result<String> {
    String::from_utf8(name).map_err(|_| HostError::InvalidMethodName.into())
}

impl External for ContractExternal<'_> {
    fn storage_set(
        &mut self,
        tracker: &mut dyn StorageAccessTracker,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let key = self.key(key);
        let evicted = self.displaced(tracker, &key)?;
        if let Some(evicted) = &evicted {
            tracker.deref_write_evicted_value_bytes(evicted.len() as u64)?;
        }
        self.state.set_raw(key, Value::from(value));
        Ok(evicted.map(|value| value.to_vec()))
    }

    fn storage_get<'a>(
        &'a self,
        _: &mut dyn StorageAccessTracker,
        key: &[u8],
    ) -> Result<Option<Box<dyn ValuePtr + 'a>>> {
        // Reads go through flat storage: no trie node is touched, only the value is charged for.
        let (value, touches) = match self.state.find(&self.key(key)) {
            Found::InChunk(value) => (value.cloned(), false),
            Found::Before(value) => (value.cloned(), true),
        };
        Ok(value.map(|value| Box::new(Read { value, touches }) as Box<dyn ValuePtr>))
    }

    fn storage_remove(&mut self, tracker: &mut dyn StorageAccessTracker, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let key = self.key(key);
        let removed = self.displaced(tracker, &key)?;
        if let Some(removed) = &removed {
            tracker.deref_removed_value_bytes(removed.len() as u64)?;
        }
        self.state.remove_raw(key);
        Ok(removed.map(|value| value.to_vec()))
    }

    fn storage_has_key(&mut self, _: &mut dyn StorageAccessTracker, key: &[u8]) -> Result<bool> {
        Ok(self.state.get_raw(&self.key(key)).is_some())
    }

    fn generate_data_id(&mut self) -> CryptoHash {
        let id = create_receipt_id_from_action_hash(&self.action_hash, self.height, self.data_count);
        self.data_count += 1;
        id
    }

    // No proof is recorded, so its limits never bind.
    fn get_recorded_storage_size(&self) -> usize {
        0
    }

    fn storage_proof_size_before_receipt(&self) -> usize {
        0
    }

    // There are no validators: nobody has a stake.
    fn validator_stake(&self, _: &AccountId) -> Result<Option<Balance>> {
        Ok(None)
    }

    fn validator_total_stake(&self) -> Result<Balance> {
        Ok(Balance::ZERO)
    }

    fn chain_id(&self) -> String {
        self.chain_id.to_owned()
    }

    fn create_action_receipt(&mut self, after: Vec<ReceiptIndex>, receiver_id: AccountId) -> Result<ReceiptIndex> {
        let data_ids = after.iter().map(|_| self.generate_data_id()).collect();
        self.promises.create(data_ids, after, receiver_id)
    }

    fn create_promise_yield_receipt(&mut self, _: AccountId) -> Result<(ReceiptIndex, CryptoHash)> {
        unsupported("promise_yield_create")
    }

    fn create_promise_yield_receipt_with_id(
        &mut self,
        _: AccountId,
        _: YieldId,
    ) -> Result<Option<(ReceiptIndex, CryptoHash)>> {
        unsupported("promise_yield_create_with_id")
    }

    // Nothing was ever yielded, so there is nothing to resume.
    fn submit_promise_resume_data(&mut self, _: CryptoHash, _: Vec<u8>) -> Result<bool> {
        Ok(false)
    }

    fn submit_promise_resume_data_with_yield_id(&mut self, _: YieldId, _: Vec<u8>) -> Result<bool> {
        Ok(false)
    }

    fn append_action_create_account(&mut self, receipt: ReceiptIndex) {
        self.promises.append(receipt, Action::CreateAccount(CreateAccountAction {}));
    }

    fn append_action_deploy_contract(&mut self, receipt: ReceiptIndex, code: Vec<u8>) {
        self.promises.append(receipt, Action::DeployContract(DeployContractAction { code }));
    }

    fn append_action_deploy_global_contract(&mut self, _: ReceiptIndex, _: Vec<u8>, _: GlobalContractDeployMode) {
        self.refuse("DeployGlobalContract");
    }

    fn append_action_use_global_contract(&mut self, _: ReceiptIndex, _: GlobalContractIdentifier) {
        self.refuse("UseGlobalContract");
    }

    fn append_action_deterministic_state_init(
        &mut self,
        _: ReceiptIndex,
        _: GlobalContractIdentifier,
        _: Balance,
    ) -> ActionIndex {
        self.refuse("DeterministicStateInit");
        0
    }

    fn set_deterministic_state_init_data_entry(
        &mut self,
        _: ReceiptIndex,
        _: ActionIndex,
        _: Vec<u8>,
        _: Vec<u8>,
    ) -> Result<()> {
        unsupported("DeterministicStateInit")
    }

    fn check_state_init(&self, state_init: &RawStateInit) -> Result<(), StateInitError> {
        UniversalStateInit::from_raw(state_init, DecodeMode::Strict).map(|_| ())
    }

    fn state_init_send_counts(&self, state_init: &RawStateInit, mode: DecodeMode) -> UniversalStateInitCounts {
        state_init_send_counts(state_init, mode)
    }

    fn append_action_universal_state_init(&mut self, _: ReceiptIndex, _: RawStateInit, _: Balance) {
        self.refuse("UniversalStateInit");
    }

    fn append_action_function_call_weight(
        &mut self,
        receipt: ReceiptIndex,
        name: Vec<u8>,
        args: Vec<u8>,
        deposit: Balance,
        gas: Gas,
        weight: GasWeight,
    ) -> Result<()> {
        let call = FunctionCallAction { method_name: method_name(name)?, args, gas, deposit };
        let action = self.promises.append(receipt, Action::FunctionCall(Box::new(call)));
        self.promises.weigh(receipt, action, weight);
        Ok(())
    }

    fn append_action_transfer(&mut self, receipt: ReceiptIndex, deposit: Balance) {
        self.promises.append(receipt, Action::Transfer(TransferAction { deposit }));
    }

    fn append_action_transfer_to_gas_key(&mut self, _: ReceiptIndex, _: PublicKey, _: Balance) {
        self.refuse("TransferToGasKey");
    }

    fn append_action_add_gas_key_with_full_access(&mut self, _: ReceiptIndex, _: PublicKey, _: NonceIndex) {
        self.refuse("AddKey of a gas key");
    }

    fn append_action_add_gas_key_with_function_call(
        &mut self,
        _: ReceiptIndex,
        _: PublicKey,
        _: NonceIndex,
        _: Option<Balance>,
        _: AccountId,
        _: Vec<Vec<u8>>,
    ) -> Result<()> {
        unsupported("AddKey of a gas key")
    }

    fn append_action_stake(&mut self, receipt: ReceiptIndex, stake: Balance, public_key: PublicKey) {
        self.promises.append(receipt, Action::Stake(Box::new(StakeAction { stake, public_key })));
    }

    fn append_action_add_key_with_full_access(&mut self, receipt: ReceiptIndex, public_key: PublicKey, nonce: Nonce) {
        let access_key = AccessKey { nonce, permission: AccessKeyPermission::FullAccess };
        self.promises.append(receipt, Action::AddKey(Box::new(AddKeyAction { public_key, access_key })));
    }

    fn append_action_add_key_with_function_call(
        &mut self,
        receipt: ReceiptIndex,
        public_key: PublicKey,
        nonce: Nonce,
        allowance: Option<Balance>,
        receiver_id: AccountId,
        method_names: Vec<Vec<u8>>,
    ) -> Result<()> {
        let permission = AccessKeyPermission::FunctionCall(FunctionCallPermission {
            allowance,
            receiver_id: receiver_id.into(),
            method_names: method_names.into_iter().map(method_name).collect::<Result<_>>()?,
        });
        let access_key = AccessKey { nonce, permission };
        self.promises.append(receipt, Action::AddKey(Box::new(AddKeyAction { public_key, access_key })));
        Ok(())
    }

    fn append_action_delete_key(&mut self, receipt: ReceiptIndex, public_key: PublicKey) {
        self.promises.append(receipt, Action::DeleteKey(Box::new(DeleteKeyAction { public_key })));
    }

    fn append_action_delete_account(&mut self, receipt: ReceiptIndex, beneficiary_id: AccountId) {
        self.promises.append(receipt, Action::DeleteAccount(DeleteAccountAction { beneficiary_id }));
    }

    fn get_receipt_receiver(&self, receipt: ReceiptIndex) -> &AccountId {
        self.promises.receiver(receipt)
    }

    fn set_refund_to(&mut self, receipt: ReceiptIndex, refund_to: AccountId) {
        self.promises.refund_to(receipt, refund_to);
    }

    // A key whose handle alone is in the trie could not be listed.
    fn post_quantum_keys_enabled(&self) -> bool {
        false
    }
}
