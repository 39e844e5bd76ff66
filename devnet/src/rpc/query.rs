//! The state after a block: `query` and the methods `EXPERIMENTAL_view_*` and `EXPERIMENTAL_call_function`.
//!
//! They read a snapshot that needs no lock; contracts run on a blocking thread.

use super::{block, params::read, site::Site, value};
use crate::{
    block::Block,
    state::{StateView, ViewError},
};
use near_jsonrpc_primitives::{
    errors::RpcError,
    types::query::{QueryResponseKind, RpcQueryError, RpcQueryRequest, RpcQueryResponse},
};
use near_primitives::{
    errors::FunctionCallError,
    types::AccountId,
    views::{AccessKeyInfoView, AccessKeyList, CallResult, ContractCodeView, QueryRequest, StateItem, ViewStateResult},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// A contract with more state than this is not shown (nearcore: `trie_viewer_state_size_limit`).
const LARGEST_VIEWED_STATE: u64 = 50_000;

/// `query`. An unknown key and a contract's failure are results here, with the text of the error, as nearcore keeps
/// it for older clients.
pub(super) async fn query(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    match view(node, read(params)?).await {
        Ok(response) => value(response),
        Err(RpcQueryError::ContractExecutionError { vm_error, block_height, block_hash, .. }) => {
            Ok(json!({"error": vm_error, "logs": [], "block_height": block_height, "block_hash": block_hash}))
        }
        Err(RpcQueryError::UnknownAccessKey { public_key, block_height, block_hash }) => {
            let error = format!("access key {public_key} does not exist while viewing");
            Ok(json!({"error": error, "logs": [], "block_height": block_height, "block_hash": block_hash}))
        }
        Err(error) => Err(error.into()),
    }
}

/// The query of one type as a method of its own, whose errors are errors.
pub(super) async fn named(node: &Site<'_>, request_type: &str, mut params: Value) -> Result<Value, RpcError> {
    if let Some(params) = params.as_object_mut() {
        params.insert("request_type".to_owned(), request_type.into());
    }
    value(view(node, read(params)?).await?)
}

async fn view(node: &Site<'_>, request: RpcQueryRequest) -> Result<RpcQueryResponse, RpcQueryError> {
    let RpcQueryRequest { block_reference, request } = request;
    let (block, state) = {
        let chain = node.chain();
        let block = block::find_header(&chain, &block_reference);
        let block = block.map_err(|_| RpcQueryError::UnknownBlock { block_reference })?;
        let state = chain
            .state_at(block.height)
            .ok_or(RpcQueryError::GarbageCollectedBlock { block_height: block.height, block_hash: block.hash })?;
        (block, state)
    };
    let at = Snapshot { block, state };
    let kind = match request {
        QueryRequest::ViewAccount { account_id } => QueryResponseKind::ViewAccount(at.account(&account_id)?.into()),
        QueryRequest::ViewCode { account_id } => at.code(account_id)?,
        QueryRequest::ViewState { account_id, prefix, .. } => at.data(account_id, prefix.as_slice())?,
        QueryRequest::ViewAccessKey { account_id, public_key } => {
            let (block_height, block_hash) = (at.block.height, at.block.hash);
            let key = at.state.access_key(&account_id, &public_key);
            let unknown = RpcQueryError::UnknownAccessKey { public_key, block_height, block_hash };
            QueryResponseKind::AccessKey(key.ok_or(unknown)?.into())
        }
        QueryRequest::ViewAccessKeyList { account_id, .. } => {
            let keys = at.state.access_keys(&account_id).into_iter();
            let keys = keys.map(|(public_key, key)| AccessKeyInfoView::new(public_key, key.into()));
            QueryResponseKind::AccessKeyList(AccessKeyList::from_iter(keys))
        }
        // devnet has no gas keys.
        QueryRequest::ViewGasKeyNonces { public_key, .. } => {
            let (block_height, block_hash) = (at.block.height, at.block.hash);
            return Err(RpcQueryError::UnknownGasKey { public_key, block_height, block_hash });
        }
        QueryRequest::CallFunction { account_id, method_name, args } => {
            let call = at.clone();
            let called = tokio::task::spawn_blocking(move || call.call(account_id, &method_name, &args));
            called.await.map_err(|error| RpcQueryError::InternalError { error_message: error.to_string() })??
        }
        QueryRequest::ViewGlobalContractCode { .. } | QueryRequest::ViewGlobalContractCodeByAccountId { .. } => {
            let error_message = "devnet has no global contracts".to_owned();
            return Err(RpcQueryError::InternalError { error_message });
        }
    };
    Ok(RpcQueryResponse { kind, block_height: at.block.height, block_hash: at.block.hash })
}

/// The state after a block.
#[derive(Clone)]
struct Snapshot {
    block: Arc<Block>,
    state: StateView,
}

impl Snapshot {
    fn account(&self, account_id: &AccountId) -> Result<near_primitives::account::Account, RpcQueryError> {
        self.state.account(account_id).ok_or_else(|| RpcQueryError::UnknownAccount {
            requested_account_id: account_id.clone(),
            block_height: self.block.height,
            block_hash: self.block.hash,
        })
    }

    fn no_code(&self, contract_account_id: AccountId) -> RpcQueryError {
        let (block_height, block_hash) = (self.block.height, self.block.hash);
        RpcQueryError::NoContractCode { contract_account_id, block_height, block_hash }
    }

    fn code(&self, account_id: AccountId) -> Result<QueryResponseKind, RpcQueryError> {
        self.account(&account_id)?;
        let code = self.state.code(&account_id).ok_or_else(|| self.no_code(account_id))?;
        Ok(QueryResponseKind::ViewCode(ContractCodeView { code: code.code().to_vec(), hash: *code.hash() }))
    }

    fn data(&self, account_id: AccountId, prefix: &[u8]) -> Result<QueryResponseKind, RpcQueryError> {
        let used = self.account(&account_id)?.storage_usage();
        let code = self.state.code(&account_id).map_or(0, |code| code.code().len() as u64);
        if used.saturating_sub(code) > LARGEST_VIEWED_STATE {
            let (block_height, block_hash) = (self.block.height, self.block.hash);
            return Err(RpcQueryError::TooLargeContractState {
                contract_account_id: account_id,
                block_height,
                block_hash,
            });
        }
        let items = self.state.data(&account_id, prefix).into_iter();
        let values = items.map(|(key, value)| StateItem { key: key.into(), value: value.to_vec().into() }).collect();
        Ok(QueryResponseKind::ViewState(ViewStateResult { values, proof: Vec::new(), last_key: None }))
    }

    fn call(&self, account_id: AccountId, method: &str, args: &[u8]) -> Result<QueryResponseKind, RpcQueryError> {
        let (block_height, block_hash) = (self.block.height, self.block.hash);
        match self.state.call(&account_id, method, args) {
            Ok(result) => Ok(QueryResponseKind::CallResult(CallResult { result: result.value, logs: result.logs })),
            Err(ViewError::NoAccount(requested_account_id)) => {
                Err(RpcQueryError::UnknownAccount { requested_account_id, block_height, block_hash })
            }
            Err(ViewError::NoContract(account_id)) => Err(self.no_code(account_id)),
            Err(ViewError::Execution { message, .. }) => Err(RpcQueryError::ContractExecutionError {
                error: FunctionCallError::ExecutionError(message.clone()),
                vm_error: message,
                block_height,
                block_hash,
            }),
        }
    }
}
