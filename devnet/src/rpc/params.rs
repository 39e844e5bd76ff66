//! Parameters: by name, or by position where nearcore has them for older clients.
//!
//! What cannot be read is a PARSE_ERROR in nearcore's words.

use near_jsonrpc_primitives::errors::RpcError;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a value.
pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T, RpcError> {
    serde_json::from_value(value)
        .map_err(|error| RpcError::parse_error(format!("Failed parsing args: {error}")))
}

/// Reads parameters by name, or a single one by position.
pub(super) fn read_or_single<T, U>(
    params: Value,
    single: impl FnOnce(U) -> T,
) -> Result<T, RpcError>
where
    T: DeserializeOwned,
    U: DeserializeOwned,
{
    match take::<1>(params) {
        Ok([value]) => read(value).map(single),
        Err(params) => read(params),
    }
}

/// The elements of an array of exactly `N`, or the parameters back.
pub(super) fn take<const N: usize>(params: Value) -> Result<[Value; N], Value> {
    match params {
        Value::Array(values) => values.try_into().map_err(Value::Array),
        params => Err(params),
    }
}
