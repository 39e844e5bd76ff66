//! near-jsonrpc-client, which we did not write, understands every answer.

use crate::world::{
    BENCH, NEAR, TOKEN, config, deploy_token, freeze, function_call, http, key, moving, request,
    serve, signed,
};
use near_jsonrpc_client::{JsonRpcClient, errors::JsonRpcError, methods};
use near_jsonrpc_primitives::types::{
    chunks::ChunkReference, query::QueryResponseKind, query::RpcQueryError,
    transactions::RpcTransactionError, transactions::TransactionInfo,
};
use near_primitives::{
    action::{Action, TransferAction},
    errors::InvalidTxError,
    types::{AccountWithPublicKey, Balance, BlockId, BlockReference, EpochReference, Finality},
    views::{
        AccessKeyPermissionView, FinalExecutionStatus, QueryRequest, StateChangeValueView,
        StateChangesRequestView, TxExecutionStatus,
    },
};
use nearbench_devnet::Devnet;
use serde_json::json;

const FINAL: BlockReference = BlockReference::Finality(Finality::Final);

fn pay() -> Vec<Action> {
    vec![Action::Transfer(TransferAction {
        deposit: Balance::from_yoctonear(NEAR),
    })]
}

async fn client(devnet: &Devnet) -> JsonRpcClient {
    let address = serve(devnet).await;
    JsonRpcClient::with(http()).connect(format!("http://{address}"))
}

async fn query(client: &JsonRpcClient, request: QueryRequest) -> QueryResponseKind {
    client
        .call(methods::query::RpcQueryRequest {
            block_reference: FINAL,
            request,
        })
        .await
        .unwrap()
        .kind
}

#[tokio::test(start_paused = true)]
async fn it_reads_the_node_and_its_blocks() {
    let _frozen = freeze();
    let devnet = Devnet::start(config()).await.unwrap();
    let client = client(&devnet).await;

    let status = client
        .call(methods::status::RpcStatusRequest)
        .await
        .unwrap();
    assert_eq!(
        (status.chain_id.as_str(), status.protocol_version),
        ("localnet", 86)
    );
    client
        .call(methods::health::RpcHealthRequest)
        .await
        .unwrap();
    client
        .call(methods::network_info::RpcNetworkInfoRequest)
        .await
        .unwrap();
    let latest = methods::validators::RpcValidatorRequest {
        epoch_reference: EpochReference::Latest,
    };
    assert_eq!(
        client.call(latest).await.unwrap().current_validators.len(),
        1
    );

    let block = client
        .call(methods::block::RpcBlockRequest {
            block_reference: FINAL,
        })
        .await
        .unwrap();
    let by_height = BlockReference::BlockId(BlockId::Height(block.header.height));
    let same = client
        .call(methods::block::RpcBlockRequest {
            block_reference: by_height,
        })
        .await
        .unwrap();
    assert_eq!(same.header.hash, block.header.hash);
    let chunk_id = block.chunks[0].chunk_hash;
    let chunk = methods::chunk::RpcChunkRequest {
        chunk_reference: ChunkReference::ChunkHash { chunk_id },
    };
    assert_eq!(
        client.call(chunk).await.unwrap().header.chunk_hash,
        chunk_id
    );
    let price = client
        .call(methods::gas_price::RpcGasPriceRequest { block_id: None })
        .await
        .unwrap();
    assert_eq!(price.gas_price, Balance::from_yoctonear(100_000_000));

    let genesis = client
        .call(methods::EXPERIMENTAL_genesis_config::RpcGenesisConfigRequest)
        .await
        .unwrap();
    assert_eq!(
        genesis.total_supply,
        Balance::from_yoctonear(8 * 1_000_000 * NEAR)
    );
    let protocol = methods::EXPERIMENTAL_protocol_config::RpcProtocolConfigRequest {
        block_reference: FINAL,
    };
    let protocol = client.call(protocol).await.unwrap();
    assert_eq!(
        protocol
            .runtime_config
            .wasm_config
            .limit_config
            .max_total_prepaid_gas
            .as_teragas(),
        1000
    );
}

#[tokio::test(start_paused = true)]
async fn it_reads_the_state() {
    let _frozen = freeze();
    let devnet = Devnet::start(config()).await.unwrap();
    deploy_token(&devnet).await;
    let client = client(&devnet).await;
    let (bench, token) = (BENCH.parse().unwrap(), TOKEN.parse().unwrap());
    let public_key = key(BENCH).public_key();

    let account = query(&client, QueryRequest::ViewAccount { account_id: bench }).await;
    let QueryResponseKind::ViewAccount(account) = account else {
        panic!("{account:?}")
    };
    assert!(
        account.amount < Balance::from_yoctonear(1_000_000 * NEAR),
        "fees were paid: {account:?}"
    );

    let request = QueryRequest::ViewAccessKey {
        account_id: BENCH.parse().unwrap(),
        public_key: public_key.clone(),
    };
    let access_key = query(&client, request).await;
    let QueryResponseKind::AccessKey(access_key) = access_key else {
        panic!("{access_key:?}")
    };
    assert_eq!(
        (access_key.nonce, access_key.permission),
        (1, AccessKeyPermissionView::FullAccess)
    );

    let list = QueryRequest::ViewAccessKeyList {
        account_id: BENCH.parse().unwrap(),
        after_key: None,
        limit: None,
    };
    let QueryResponseKind::AccessKeyList(list) = query(&client, list).await else {
        panic!("no list")
    };
    assert_eq!(list.keys.len(), 1);

    let args = json!({"account_id": BENCH}).to_string().into_bytes().into();
    let balance = QueryRequest::CallFunction {
        account_id: token,
        method_name: "ft_balance_of".to_owned(),
        args,
    };
    let QueryResponseKind::CallResult(balance) = query(&client, balance).await else {
        panic!("no result")
    };
    assert_eq!(
        balance.result,
        format!("\"{}\"", 1_000_000_000 * NEAR).into_bytes()
    );

    let QueryResponseKind::ViewCode(code) = query(
        &client,
        QueryRequest::ViewCode {
            account_id: TOKEN.parse().unwrap(),
        },
    )
    .await
    else {
        panic!("no code")
    };
    assert_eq!(code.hash, near_primitives::hash::hash(&code.code));
    let state = QueryRequest::ViewState {
        account_id: TOKEN.parse().unwrap(),
        prefix: b"STATE".to_vec().into(),
        after_key: None,
        limit: None,
        include_proof: false,
    };
    let QueryResponseKind::ViewState(state) = query(&client, state).await else {
        panic!("no state")
    };
    assert_eq!(state.values.len(), 1);

    let nobody = QueryRequest::ViewAccount {
        account_id: "nobody.test.near".parse().unwrap(),
    };
    let request = methods::query::RpcQueryRequest {
        block_reference: FINAL,
        request: nobody,
    };
    match client.call(request).await.unwrap_err() {
        JsonRpcError::ServerError(
            near_jsonrpc_client::errors::JsonRpcServerError::HandlerError(
                RpcQueryError::UnknownAccount { .. },
            ),
        ) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn it_sends_and_follows_transactions() {
    let _frozen = freeze();
    let devnet = Devnet::start(config()).await.unwrap();
    deploy_token(&devnet).await;
    let client = client(&devnet).await;

    let transfer = json!({"receiver_id": "user-1.test.near", "amount": "7"});
    let actions = vec![function_call("ft_transfer", &transfer, 1)];
    let signed_transaction = signed(&devnet, BENCH, 2, TOKEN, actions).await;
    let hash = signed_transaction.get_hash();
    let send = methods::send_tx::RpcSendTransactionRequest {
        signed_transaction: signed_transaction.clone(),
        wait_until: TxExecutionStatus::Final,
    };
    let sent = moving(client.call(send)).await.unwrap();
    assert_eq!(sent.final_execution_status, TxExecutionStatus::Final);
    let outcome = sent.final_execution_outcome.unwrap().into_outcome();
    assert_eq!(
        outcome.status,
        FinalExecutionStatus::SuccessValue(Vec::new())
    );
    assert_eq!(outcome.transaction.hash, hash);

    let info = TransactionInfo::TransactionId {
        tx_hash: hash,
        sender_account_id: BENCH.parse().unwrap(),
    };
    let wait_until = TxExecutionStatus::Final;
    let tx = methods::tx::RpcTransactionStatusRequest {
        transaction_info: info.clone(),
        wait_until: wait_until.clone(),
    };
    let again = client
        .call(tx)
        .await
        .unwrap()
        .final_execution_outcome
        .unwrap()
        .into_outcome();
    assert_eq!(again, outcome);
    let tx = methods::tx_status::RpcTransactionStatusRequest {
        transaction_info: info,
        wait_until,
    };
    let with_receipts = client
        .call(tx)
        .await
        .unwrap()
        .final_execution_outcome
        .unwrap();
    assert_eq!(with_receipts.into_outcome(), outcome);

    let included = outcome.transaction_outcome.block_hash;
    let changes = methods::EXPERIMENTAL_changes::RpcStateChangesInBlockByTypeRequest {
        block_reference: BlockReference::BlockId(BlockId::Hash(included)),
        state_changes_request: StateChangesRequestView::SingleAccessKeyChanges {
            keys: vec![AccountWithPublicKey {
                account_id: BENCH.parse().unwrap(),
                public_key: key(BENCH).public_key(),
            }],
        },
    };
    let changes = client.call(changes).await.unwrap().changes;
    assert_eq!(changes.len(), 1, "{changes:?}");
    let StateChangeValueView::AccessKeyUpdate { access_key, .. } = &changes[0].value else {
        panic!("{changes:?}")
    };
    assert_eq!(access_key.nonce, 2);
    assert!(
        serde_json::to_string(&changes[0].cause)
            .unwrap()
            .contains(&hash.to_string())
    );

    let asynchronous = signed(&devnet, BENCH, 3, "user-1.test.near", pay()).await;
    let request = methods::broadcast_tx_async::RpcBroadcastTxAsyncRequest {
        signed_transaction: asynchronous.clone(),
    };
    assert_eq!(client.call(request).await.unwrap(), asynchronous.get_hash());
    let commit = signed(&devnet, BENCH, 4, "user-1.test.near", pay()).await;
    let request = methods::broadcast_tx_commit::RpcBroadcastTxCommitRequest {
        signed_transaction: commit,
    };
    let committed = moving(client.call(request)).await.unwrap();
    assert_eq!(
        committed.status,
        FinalExecutionStatus::SuccessValue(Vec::new())
    );

    let late = signed(&devnet, BENCH, 4, "user-2.test.near", pay()).await;
    let send = methods::send_tx::RpcSendTransactionRequest {
        signed_transaction: late,
        wait_until: TxExecutionStatus::ExecutedOptimistic,
    };
    let refused = client.call(send).await.unwrap_err();
    match refused.handler_error() {
        Some(RpcTransactionError::InvalidTransaction {
            context:
                InvalidTxError::InvalidNonce {
                    tx_nonce: 4,
                    ak_nonce: 4,
                },
        }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn http_2_without_tls_is_spoken_too() {
    let _frozen = freeze();
    let devnet = Devnet::start(config()).await.unwrap();
    let address = serve(&devnet).await;
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let post = client
        .post(format!("http://{address}/"))
        .header("content-type", "application/json");
    let answer = post
        .body(request("health", json!([])))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, reqwest::Version::HTTP_2)
    );
    let metrics = client
        .get(format!("http://{address}/metrics"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(metrics.contains("\nnear_block_height_head "), "{metrics}");
}
