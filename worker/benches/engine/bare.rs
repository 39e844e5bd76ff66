//! What a transaction costs at the least: written as borsh, hashed, signed with a key expanded once, written as base64
//! and posted over one connection kept open, one after the other in one thread. Nothing is kept or looked at.

use crate::{chain::Chain, rate::Rate, work};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signer as _, SigningKey};
use nearbench_core::Transfer;
use sha2::{Digest, Sha256};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

const HEAD: &[u8] = br#"{"jsonrpc":"2.0","id":"nearbench","method":"send_tx","params":{"signed_tx_base64":""#;
const TAIL: &[u8] = br#"","wait_until":"NONE"}}"#;

/// Signs and posts so many transactions of `batch` transfers.
pub(crate) fn run(chain: &Chain, batch: u32, transactions: u64) -> Rate {
    let key = SigningKey::from_bytes(&[3; 32]);
    let transfers: Vec<Transfer> = (0..u64::from(batch)).map(work::transfer).collect();
    let mut socket = TcpStream::connect(("127.0.0.1", chain.port)).unwrap();
    socket.set_nodelay(true).unwrap();
    // It looks for the answer until it is there: to be woken would take longer than the answer.
    socket.set_nonblocking(true).unwrap();
    let (mut bytes, mut request, mut text, mut answer) = (Vec::new(), Vec::new(), Vec::new(), vec![0; 4096]);
    Rate::of(transactions, || {
        for nonce in 0..transactions {
            bytes.clear();
            write_transaction(&mut bytes, &key, nonce, &transfers);
            let signature = key.sign(&Sha256::digest(&bytes));
            bytes.push(0);
            bytes.extend_from_slice(&signature.to_bytes());
            text.resize(bytes.len().div_ceil(3) * 4, 0);
            let length = STANDARD.encode_slice(&bytes, &mut text).unwrap();
            request.clear();
            write!(
                request,
                "POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                HEAD.len() + length + TAIL.len()
            )
            .unwrap();
            request.extend_from_slice(HEAD);
            request.extend_from_slice(&text[..length]);
            request.extend_from_slice(TAIL);
            socket.write_all(&request).unwrap();
            // The answer is short and comes in one piece.
            let read = loop {
                match socket.read(&mut answer) {
                    Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                    read => break read.unwrap(),
                }
            };
            assert!(read > 0);
        }
    })
}

fn write_transaction(out: &mut Vec<u8>, key: &SigningKey, nonce: u64, transfers: &[Transfer]) {
    fn text(out: &mut Vec<u8>, text: &[u8]) {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text);
    }
    text(out, work::ACCOUNT.as_bytes());
    out.push(0);
    out.extend_from_slice(key.verifying_key().as_bytes());
    out.extend_from_slice(&nonce.to_le_bytes());
    text(out, work::TOKEN.as_bytes());
    out.extend_from_slice(&[7; 32]);
    out.extend_from_slice(&(transfers.len() as u32).to_le_bytes());
    for Transfer { receiver, amount, id, .. } in transfers {
        out.push(2);
        text(out, b"ft_transfer");
        let length_at = out.len();
        out.extend_from_slice(&[0; 4]);
        write!(out, r#"{{"receiver_id":"{receiver}","amount":"{amount}","memo":"{id}"}}"#).unwrap();
        let length = (out.len() - length_at - 4) as u32;
        out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&work::GAS.to_le_bytes());
        out.extend_from_slice(&1_u128.to_le_bytes());
    }
}
