//! Runs a contract's method. Source: nearcore `runtime/runtime/src/function_call.rs`.

use std::sync::Arc;

use near_parameters::RuntimeConfig;
use near_primitives::account::{Account, AccountContract};
use near_primitives::errors::{
    ActionErrorKind, CompilationError as CompilationErrorView, FunctionCallError as FunctionCallErrorView,
    MethodResolveError as MethodResolveErrorView, PrepareError as PrepareErrorView,
};
use near_primitives::hash::CryptoHash;
use near_primitives::trie_key::TrieKey;
use near_primitives::types::AccountId;
use near_vm_runner::logic::errors::{CompilationError, FunctionCallError, VMRunnerError};
use near_vm_runner::logic::{External, GasCounter, VMContext, VMOutcome};
use near_vm_runner::{Contract, ContractCode, FilesystemContractRuntimeCache, noop_background_spawner};
use tempfile::TempDir;

use super::Rules;
use super::external::Unsupported;

/// Contracts kept compiled and loaded in memory.
const CONTRACTS_IN_MEMORY: usize = 64;
/// Bytes of compiled contracts kept on disk.
const DISK_CACHE_BYTES: u64 = 1 << 30;

/// Compiled contracts of one chain. Only this type of cache keeps modules loaded between calls.
pub(super) struct ContractCache {
    cache: FilesystemContractRuntimeCache,
    /// Removed when the chain is dropped.
    _directory: TempDir,
}

impl ContractCache {
    pub(super) fn new() -> std::io::Result<Self> {
        let directory = TempDir::with_prefix("nearbench-devnet-")?;
        let cache = FilesystemContractRuntimeCache::with_memory_cache(
            directory.path(),
            None::<&str>,
            "contract.cache",
            CONTRACTS_IN_MEMORY,
            None,
            DISK_CACHE_BYTES,
            noop_background_spawner(),
        )?;
        Ok(Self { cache, _directory: directory })
    }
}

/// The code of an account, read only when it must be compiled.
struct Code<F> {
    hash: CryptoHash,
    read: F,
}

impl<F: Fn() -> Option<Arc<[u8]>>> Contract for Code<F> {
    fn hash(&self) -> CryptoHash {
        self.hash
    }

    fn get_code(&self) -> Option<Arc<ContractCode>> {
        let code = (self.read)()?;
        Some(Arc::new(ContractCode::new(code.to_vec(), Some(self.hash))))
    }
}

/// The hash of the contract of an account, if it has one that devnet can execute.
pub(super) fn local_contract(account: &Account) -> Option<CryptoHash> {
    match *account.contract() {
        AccountContract::Local(hash) => Some(hash),
        AccountContract::None | AccountContract::Global(_) | AccountContract::GlobalByAccount(_) => None,
    }
}

/// Runs `method` of the contract `hash`, whose code `read` finds.
///
/// # Panics
/// Where the VM could not say what a node would do (no memory, a broken cache): a chain must not go on from there.
pub(super) fn run(
    rules: &Rules,
    hash: CryptoHash,
    read: impl Fn(&[u8]) -> Option<Arc<[u8]>>,
    method: &str,
    context: &VMContext,
    // The VM asks for `Send`.
    external: &mut (dyn External + Send),
) -> Result<VMOutcome, Unsupported> {
    let config: &RuntimeConfig = &rules.config;
    let key = TrieKey::ContractCode { account_id: context.current_account_id.clone() }.to_vec();
    let code = Code { hash, read: || read(&key) };
    let wasm = &config.wasm_config;
    let limit = context.view_config.as_ref().map_or(wasm.limit_config.max_gas_burnt, |view| view.max_gas_burnt);
    let gas = GasCounter::new(
        wasm.ext_costs.clone(),
        limit,
        wasm.regular_op_cost,
        context.prepaid_gas,
        context.view_config.is_some(),
    );
    let prepared = near_vm_runner::prepare(&code, Arc::clone(wasm), Some(&rules.contracts.cache), gas, method);
    match near_vm_runner::run(prepared, external, context, Arc::clone(&config.fees)) {
        Ok(outcome) => Ok(outcome),
        Err(VMRunnerError::ExternalError(error)) => match error.downcast::<Unsupported>() {
            Ok(unsupported) => Err(unsupported),
            Err(_) => panic!("the VM reported an external error that devnet did not make"),
        },
        Err(error) => panic!("the VM failed on {}.{method}: {error}", context.current_account_id),
    }
}

/// The error of an account without a contract.
pub(super) fn no_code(account_id: &AccountId) -> ActionErrorKind {
    ActionErrorKind::FunctionCallError(FunctionCallErrorView::CompilationError(
        CompilationErrorView::CodeDoesNotExist { account_id: account_id.clone() },
    ))
}

/// The VM's error as an outcome shows it.
pub(super) fn call_error(error: FunctionCallError) -> ActionErrorKind {
    let execution = FunctionCallErrorView::ExecutionError;
    ActionErrorKind::FunctionCallError(match error {
        FunctionCallError::CompilationError(error) => FunctionCallErrorView::CompilationError(match error {
            CompilationError::CodeDoesNotExist { account_id } => match account_id.parse() {
                Ok(account_id) => CompilationErrorView::CodeDoesNotExist { account_id },
                Err(error) => {
                    panic!("the VM named an impossible account {account_id}: {error}")
                }
            },
            CompilationError::PrepareError(error) => CompilationErrorView::PrepareError(prepare_error(error)),
            CompilationError::WasmerCompileError { msg } => CompilationErrorView::WasmerCompileError { msg },
            CompilationError::WasmtimeCompileError { msg } => CompilationErrorView::WasmerCompileError { msg },
        }),
        FunctionCallError::LinkError { msg } => execution(format!("Link Error: {msg}")),
        FunctionCallError::MethodResolveError(error) => FunctionCallErrorView::MethodResolveError(method_error(error)),
        FunctionCallError::WasmTrap(trap) => execution(format!("WebAssembly trap: {trap}")),
        FunctionCallError::LoadingError { msg } => execution(format!("Loading error: {msg}")),
        FunctionCallError::HostError(error) => execution(error.to_string()),
    })
}

fn method_error(error: near_vm_runner::logic::errors::MethodResolveError) -> MethodResolveErrorView {
    use near_vm_runner::logic::errors::MethodResolveError as Vm;
    match error {
        Vm::MethodEmptyName => MethodResolveErrorView::MethodEmptyName,
        Vm::MethodNotFound => MethodResolveErrorView::MethodNotFound,
        Vm::MethodInvalidSignature => MethodResolveErrorView::MethodInvalidSignature,
    }
}

/// The same error by name: the numbers of the two types differ.
fn prepare_error(error: near_vm_runner::logic::errors::PrepareError) -> PrepareErrorView {
    use near_vm_runner::logic::errors::PrepareError as Vm;
    macro_rules! same {
        ($($name:ident)*) => { match error { $(Vm::$name => PrepareErrorView::$name),* } };
    }
    same! {
        Serialization Deserialization InternalMemoryDeclared GasInstrumentation StackHeightInstrumentation Instantiate
        Memory TooManyFunctions TooManyLocals TooManyTables TooManyTableElements FunctionBodyTooLarge
        InstrumentedCodeTooLarge TooManyBlocksPerFunction TooManyBlocksPerContract TooManyTypes
        TooManyParamsPerContract TooManyParamsPerFunction OperandStackTooLarge TooManyGlobals
    }
}
