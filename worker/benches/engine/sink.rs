//! A chain's answers without a chain: one thread that takes every transaction, has executed it in the newest final
//! block, and answers with as many bytes as a node does. It must cost little beside what it is asked by.

use crate::chain;
use nearbench_core::{Hash, Height};
use serde_json::{Value, json};
use std::{
    io::{ErrorKind, Write as _},
    rc::Rc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Stands in for a transaction's hash in the template, and is as long as any.
const TX_MARK: &str = "TTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTTT";
const BLOCK_MARK: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB";

/// Listens on a free port, which it prints, and answers until it is killed.
pub(crate) fn serve(batch: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        let template: &'static Template = Box::leak(Box::new(Template::new(batch)));
        let connections = Rc::new(());
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let connections = connections.clone();
            tokio::task::spawn_local(async move {
                // Whoever hangs up has what it wants.
                _ = answer_all(socket, template, &connections).await;
            });
        }
    });
}

async fn answer_all(mut socket: TcpStream, template: &Template, connections: &Rc<()>) -> std::io::Result<()> {
    let (mut heard, mut said) = (Vec::with_capacity(1 << 16), Vec::with_capacity(1 << 16));
    loop {
        // To wake a sleeping thread takes longer than to answer. A lone asker, who waits for each answer before the next
        // question, is spared that; where there are several, some question is always there.
        while Rc::strong_count(connections) <= 2 {
            match socket.try_read_buf(&mut heard) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    std::thread::yield_now();
                    tokio::task::yield_now().await;
                }
                Ok(0) => return Ok(()),
                read => {
                    read?;
                    break;
                }
            }
        }
        if heard.is_empty() && socket.read_buf(&mut heard).await? == 0 {
            return Ok(());
        }
        while let Some((body, end)) = request(&heard) {
            template.answer(&heard[body..end], &mut said);
            heard.drain(..end);
        }
        if !said.is_empty() {
            socket.write_all(&said).await?;
            said.clear();
        }
    }
}

/// Where the first whole request's body begins and ends.
fn request(heard: &[u8]) -> Option<(usize, usize)> {
    let body = find(heard, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&heard[..body]).unwrap();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap());
    (heard.len() >= body + length).then_some((body, body + length))
}

/// The answer to `tx` in pieces, between which stand the transaction's hash and the block's.
struct Template {
    pieces: Vec<(Vec<u8>, Mark)>,
    sent: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Mark {
    Transaction,
    Block,
    End,
}

impl Template {
    fn new(batch: u32) -> Self {
        let text = tx_answer(batch).to_string();
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        loop {
            let next = [(TX_MARK, Mark::Transaction), (BLOCK_MARK, Mark::Block)]
                .into_iter()
                .filter_map(|(mark, what)| Some((rest.find(mark)?, what)))
                .min_by_key(|(at, _)| *at);
            let Some((at, mark)) = next else { break };
            pieces.push((rest[..at].into(), mark));
            rest = &rest[at + TX_MARK.len()..];
        }
        pieces.push((rest.into(), Mark::End));
        let sent = json!({"jsonrpc": "2.0", "id": "nearbench", "result": {"final_execution_status": "NONE"}});
        Self { pieces, sent: sent.to_string().into() }
    }

    fn answer(&self, body: &[u8], said: &mut Vec<u8>) {
        let method = &body[find(body, br#""method":""#).unwrap() + 10..];
        if method.starts_with(b"send_tx\"") {
            write_head(said, self.sent.len());
            said.extend_from_slice(&self.sent);
        } else if method.starts_with(b"tx\"") {
            let hash = &body[find(body, br#""tx_hash":""#).unwrap() + 11..];
            let hash = &hash[..find(hash, b"\"").unwrap()];
            let block = chain::block(final_height()).hash.to_string();
            let mut length = 0;
            self.pieces(hash, block.as_bytes(), &mut |piece| length += piece.len());
            write_head(said, length);
            self.pieces(hash, block.as_bytes(), &mut |piece| said.extend_from_slice(piece));
        } else {
            let answer = other(&serde_json::from_slice(body).unwrap()).to_string();
            write_head(said, answer.len());
            said.extend_from_slice(answer.as_bytes());
        }
    }

    fn pieces(&self, hash: &[u8], block: &[u8], each: &mut impl FnMut(&[u8])) {
        for (piece, mark) in &self.pieces {
            each(piece);
            match mark {
                Mark::Transaction => each(hash),
                Mark::Block => each(block),
                Mark::End => {}
            }
        }
    }
}

fn write_head(said: &mut Vec<u8>, length: usize) {
    write!(said, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n").unwrap();
}

fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let first = needle[0];
    let mut from = 0;
    loop {
        from += text[from..].iter().position(|byte| *byte == first)?;
        if text[from..].starts_with(needle) {
            return Some(from);
        }
        from += 1;
    }
}

/// The newest final block's.
fn final_height() -> Height {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    (now.as_nanos() / chain::BLOCK_INTERVAL.as_nanos()) as Height
}

/// What is asked rarely.
fn other(request: &Value) -> Value {
    let (method, params) = (request["method"].as_str().unwrap(), &request["params"]);
    let result = match method {
        "block" => {
            let height = match &params["block_id"] {
                Value::Null => final_height(),
                Value::Number(height) => height.as_u64().unwrap(),
                hash => chain::height(&hash.as_str().unwrap().parse::<Hash>().unwrap()),
            };
            let block = chain::block(height);
            json!({
                "author": "validator.near",
                "chunks": [],
                "header": {
                    "height": block.height,
                    "hash": block.hash.to_string(),
                    "prev_hash": block.prev_hash.to_string(),
                    "timestamp": block.timestamp_ns,
                    "timestamp_nanosec": block.timestamp_ns.to_string(),
                },
            })
        }
        // A key that nobody has used.
        "query" => json!({"nonce": 0, "permission": "FullAccess", "block_height": final_height(),
            "block_hash": chain::block(final_height()).hash.to_string()}),
        other => panic!("the engine asks {other}, which the stand-in does not know"),
    };
    json!({"jsonrpc": "2.0", "id": "nearbench", "result": result})
}

/// What a node answers to `tx` about a batch that succeeded (nearcore, `FinalExecutionOutcomeView`): actions, logs and
/// proofs are as long as a token's are.
fn tx_answer(batch: u32) -> Value {
    let hash = "9sQcrtmHfuJPbQQhHbeMuJT2kpSbxBuoCqXhMgY8RzeH";
    let step = json!({"direction": "Right", "hash": hash});
    let proof = vec![step; 8];
    let args = "eyJyZWNlaXZlcl9pZCI6InVzZXItNDIuZnQtYmVuY2htYXJrLnRlc3RuZXQiLCJhbW91bnQiOiIxIiwibWVtbyI6IjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVmIn0=";
    let call = json!({"FunctionCall": {"args": args, "deposit": "1", "gas": 3_000_000_000_000_u64, "method_name": "ft_transfer"}});
    let log = r#"EVENT_JSON:{"standard":"nep141","version":"1.0.0","event":"ft_transfer","data":[{"old_owner_id":"ft-benchmark.testnet","new_owner_id":"user-42.ft-benchmark.testnet","amount":"1","memo":"0123456789abcdef0123456789abcdef"}]}"#;
    let cost = |name: &str| json!({"cost": name, "cost_category": "WASM_HOST_COST", "gas_used": "28054000000"});
    let costs = [
        "BASE",
        "CONTRACT_LOADING_BASE",
        "CONTRACT_LOADING_BYTES",
        "LOG_BASE",
        "LOG_BYTE",
        "READ_CACHED_TRIE_NODE",
        "READ_MEMORY_BASE",
        "READ_MEMORY_BYTE",
        "READ_REGISTER_BASE",
        "READ_REGISTER_BYTE",
        "STORAGE_READ_BASE",
        "STORAGE_READ_KEY_BYTE",
        "STORAGE_READ_VALUE_BYTE",
        "STORAGE_WRITE_BASE",
        "STORAGE_WRITE_EVICTED_BYTE",
        "STORAGE_WRITE_KEY_BYTE",
        "STORAGE_WRITE_VALUE_BYTE",
        "TOUCHING_TRIE_NODE",
        "UTF8_DECODING_BASE",
        "UTF8_DECODING_BYTE",
        "WASM_INSTRUCTION",
        "WRITE_MEMORY_BASE",
        "WRITE_MEMORY_BYTE",
        "WRITE_REGISTER_BASE",
        "WRITE_REGISTER_BYTE",
    ]
    .map(cost);
    let outcome = |id: &str, logs: Vec<&str>, profile: Value, receipts: Value, status: Value| {
        json!({
            "block_hash": BLOCK_MARK,
            "id": id,
            "outcome": {
                "executor_id": "ft.ft-benchmark.testnet",
                "gas_burnt": 1_350_000_000_000_u64,
                "logs": logs,
                "metadata": {"gas_profile": profile, "version": 3},
                "receipt_ids": receipts,
                "status": status,
                "tokens_burnt": "135000000000000000000",
            },
            "proof": proof,
        })
    };
    // A receipt of the same name as its transaction: one text less to fill in.
    let conversion = outcome(TX_MARK, vec![], Value::Null, json!([TX_MARK]), json!({"SuccessReceiptId": TX_MARK}));
    let logs = vec![log; batch as usize];
    let executed = outcome(TX_MARK, logs, json!(costs), json!([hash]), json!({"SuccessValue": ""}));
    json!({
        "jsonrpc": "2.0",
        "id": "nearbench",
        "result": {
            "final_execution_status": "FINAL",
            "receipts_outcome": [executed],
            "status": {"SuccessValue": ""},
            "transaction": {
                "actions": vec![call; batch as usize],
                "hash": TX_MARK,
                "nonce": 123_456_789_000_001_u64,
                "priority_fee": 0,
                "public_key": "ed25519:9sQcrtmHfuJPbQQhHbeMuJT2kpSbxBuoCqXhMgY8RzeH",
                "receiver_id": "ft.ft-benchmark.testnet",
                "signature": "ed25519:3s1dvZdQtcAjBksMHFrysqvF63wnyMHPA4owNQmCJZ2EBakZEKdtMsLqrHdKWQjJbSRN6kRknN2WdwSBLWGCokXj",
                "signer_id": "ft-benchmark.testnet",
            },
            "transaction_outcome": conversion,
        },
    })
}
