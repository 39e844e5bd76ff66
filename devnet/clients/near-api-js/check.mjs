// check.mjs BINARY: near-api-js, a client that we did not write, lives on a devnet of BINARY: accounts, a token, transfers,
// promises that are kept, broken and refunded, and what is forgotten. A line a step; ends with 1 at the first that is not as it should be.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Account, actions, JsonRpcProvider, KeyPair, nearToYocto, teraToGas } from 'near-api-js';
import { FungibleToken } from 'near-api-js/tokens';

const LONGEST_MS = 180_000;
const ROOT = 'test.near';
const TOKEN = `ft.${ROOT}`;
const SUPPLY = 1_000_000n;
const wasm = new Uint8Array(await readFile(new URL('../../../contracts/ft/res/ft.wasm', import.meta.url)));

/** A contract whose one method, ft_on_transfer, returns that 2 tokens were not used. */
function receiver() {
  const text = (words) => [words.length, ...Buffer.from(words)];
  const section = (id, bytes) => [id, bytes.length, ...bytes];
  const [i64, none] = [0x7e, 0];
  return new Uint8Array([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [2, 0x60, 2, i64, i64, none, 0x60, none, none]), // types: (i64, i64) and ()
    ...section(2, [1, ...text('env'), ...text('value_return'), 0, 0]), // import, of the first type
    ...section(3, [1, 1]), // one function, of the second type
    ...section(5, [1, 0, 1]), // a page of memory
    ...section(7, [1, ...text('ft_on_transfer'), 0, 1]), // export
    ...section(10, [1, 8, 0, 0x42, 3, 0x42, 0, 0x10, 0, 0x0b]), // value_return(3, 0)
    ...section(11, [1, 0, 0x41, 0, 0x0b, ...text('"2"')]), // memory from 0 on
  ]);
}

let steps = 0;
const step = (what) => console.log(`near-api-js: ${++steps}. ${what}`);

/** What one can do on a chain. */
async function live({ url, privateKey }) {
  const provider = new JsonRpcProvider({ url });
  const root = new Account(ROOT, provider, privateKey);

  const status = await provider.viewNodeStatus();
  assert.equal(status.chain_id, 'devnet');
  assert.equal(await provider.getNetworkId(), 'devnet');
  const block = await provider.viewBlock({ finality: 'final' });
  assert.equal((await provider.viewBlock({ blockId: block.header.height })).header.hash, block.header.hash);
  assert.equal((await provider.viewChunk(block.chunks[0].chunk_hash)).header.chunk_hash, block.chunks[0].chunk_hash);
  assert.ok(BigInt((await provider.viewGasPrice()).gas_price) > 0n);
  assert.equal((await provider.viewValidators()).current_validators.length, 1);
  step(`devnet answers at height ${status.sync_info.latest_block_height}: status, blocks, chunks, gas price, validators`);

  const made = {};
  for (const name of [TOKEN, `alice.${ROOT}`, `bob.${ROOT}`, `empty.${ROOT}`, `part.${ROOT}`]) {
    const pair = KeyPair.fromRandom('ed25519');
    await root.createSubAccount({ accountOrPrefix: name, publicKey: pair.getPublicKey(), nearToTransfer: nearToYocto('20') });
    made[name] = new Account(name, provider, pair.toString());
    const { balance } = await made[name].getState();
    assert.equal(balance.total, nearToYocto('20'), name);
  }
  const [ft, alice, bob, empty, part] = Object.values(made);
  assert.equal((await alice.getAccessKeyList()).keys.length, 1);
  step(`made ${Object.keys(made).join(', ')}`);

  await ft.deployContract(wasm);
  assert.deepEqual(new Uint8Array((await provider.viewContractCode({ contractId: TOKEN })).code), wasm);
  await root.callFunction({ contractId: TOKEN, methodName: 'new', args: { owner_id: ROOT, total_supply: `${SUPPLY}` } });
  const metadata = await provider.callFunction({ contractId: TOKEN, method: 'ft_metadata', args: {} });
  assert.equal(await provider.callFunction({ contractId: TOKEN, method: 'ft_total_supply', args: {} }), `${SUPPLY}`);
  assert.ok((await provider.viewContractState({ contractId: TOKEN })).values.length > 0);
  step(`deployed the token (${wasm.length} bytes) and made ${SUPPLY} ${metadata.symbol}`);

  const token = new FungibleToken(TOKEN, metadata);
  const balances = async (...accounts) => Promise.all(accounts.map((account) => account.getBalance(token)));
  assert.equal(await token.isAccountRegistered({ accountId: alice.accountId, provider }), false);
  for (const account of [alice, empty, part]) {
    await token.registerAccount({ accountIdToRegister: account.accountId, fundingAccount: root });
    assert.ok(await token.isAccountRegistered({ accountId: account.accountId, provider }), account.accountId);
  }
  step('registered alice, empty and part');

  await root.transfer({ receiverId: alice.accountId, amount: 1000n, token });
  assert.deepEqual(await balances(root, alice), [SUPPLY - 1000n, 1000n]);
  const ftTransfer = (receiver_id, amount) =>
    actions.functionCall('ft_transfer', { receiver_id, amount: `${amount}` }, teraToGas('10'), 1n);
  const batch = await alice.signAndSendTransaction({
    receiverId: TOKEN,
    actions: [ftTransfer(ROOT, 1), ftTransfer(ROOT, 2), ftTransfer(ROOT, 3)],
    waitUntil: 'FINAL',
  });
  assert.equal(batch.final_execution_status, 'FINAL');
  assert.deepEqual(await balances(root, alice), [SUPPLY - 994n, 994n]);
  step('ft_transfer of 1000 to alice, who returned 6 in a batch of three');

  const again = await provider.viewTransactionStatus({
    txHash: batch.transaction.hash, accountId: alice.accountId, waitUntil: 'FINAL',
  });
  assert.deepEqual(again, batch);
  const traced = await provider.viewTransactionStatusWithReceipts({
    txHash: batch.transaction.hash, accountId: alice.accountId, waitUntil: 'FINAL',
  });
  assert.ok(traced.receipts.length > 0);
  const [key] = (await alice.getAccessKeyList()).keys;
  const changes = await provider.singleAccessKeyChanges(
    [{ account_id: alice.accountId, public_key: key.public_key }],
    { blockId: batch.transaction_outcome.block_hash },
  );
  assert.equal(changes.changes[0].cause.tx_hash, batch.transaction.hash);
  step('its outcome, its receipts and its key\'s change are found again');

  await assert.rejects(root.transfer({ receiverId: bob.accountId, amount: 1n, token }), /not registered/);
  const half = { receiverId: TOKEN, actions: [ftTransfer(ROOT, 4), ftTransfer(bob.accountId, 4)] };
  await assert.rejects(alice.signAndSendTransaction(half), /not registered/);
  await assert.rejects(alice.transfer({ receiverId: ROOT, amount: nearToYocto('1000') }), (error) => {
    assert.ok(/balance/i.test(`${error.name} ${error.message}`), String(error));
    return true;
  });
  assert.deepEqual(await balances(root, alice), [SUPPLY - 994n, 994n]);
  step('a receiver that is not registered, alone and within a batch, and a balance too small: nothing moved');

  // Who has no contract and whose contract lacks the method: the promise breaks, and the token takes all back.
  for (const deployed of [false, true]) {
    if (deployed) await empty.deployContract(wasm);
    const used = await token.transferCall({ from: alice, receiverId: empty.accountId, amount: 5n, msg: '' });
    assert.equal(BigInt(used ?? 0), 0n);
    assert.deepEqual(await balances(alice, empty), [994n, 0n]);
  }
  await part.deployContract(receiver());
  const used = await token.transferCall({ from: alice, receiverId: part.accountId, amount: 5n, msg: '' });
  assert.equal(BigInt(used), 3n);
  assert.deepEqual(await balances(alice, part), [991n, 3n]);
  step('ft_transfer_call to no contract, to one without ft_on_transfer, and to one that used 3 of 5: the rest came back');

  const second = KeyPair.fromRandom('ed25519');
  await alice.addFullAccessKey(second.getPublicKey());
  const other = new Account(alice.accountId, provider, second.toString());
  await Promise.all([
    ...[1n, 2n, 3n].map((amount) => other.transfer({ receiverId: ROOT, amount, token })),
    alice.transfer({ receiverId: ROOT, amount: 4n, token }),
  ]);
  assert.deepEqual(await balances(root, alice), [SUPPLY - 984n, 981n]);
  await alice.deleteKey(second.getPublicKey());
  await assert.rejects(other.transfer({ receiverId: ROOT, amount: 1n, token }));
  step('four transfers at once with two keys; the second key was added, used and deleted');

  await bob.deleteAccount(ROOT);
  await assert.rejects(bob.getState());
  step('bob is deleted');
}

/** What a node answers that collects, and an archival one beside it. */
async function forget({ url, privateKey }) {
  const [provider, archive] = [url, `${url}/endpoints/archive`].map((url) => new JsonRpcProvider({ url }));
  const root = new Account(ROOT, provider, privateKey);
  const signed = await root.createSignedTransaction({ receiverId: ROOT, actions: [actions.transfer(1n)] });
  const sent = await provider.sendTransactionUntil(signed, 'FINAL');
  const blockId = sent.transaction_outcome.block_hash;
  const look = { txHash: sent.transaction.hash, accountId: ROOT, waitUntil: 'NONE' };
  assert.deepEqual(await provider.viewTransactionStatus(look), sent);
  await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'sandbox_fast_forward', params: { delta_height: 60 } }),
  });
  const refused = async (asked, words) => assert.rejects(asked, (error) => {
    const said = `${error.name} ${error.type} ${error.message} ${JSON.stringify(error)}`;
    assert.match(said, words);
    return true;
  });
  await refused(provider.viewTransactionStatus(look), /unknown.?transaction|doesn't exist/i);
  await refused(provider.viewBlock({ blockId }), /unknown.?block|not found/i);
  await refused(provider.viewAccount({ accountId: ROOT, blockQuery: { blockId } }), /garbage.?collected/i);
  await refused(provider.sendTransactionUntil(signed, 'INCLUDED'), /expired/i);
  assert.deepEqual(await archive.viewTransactionStatus(look), sent);
  assert.equal((await archive.viewBlock({ blockId })).header.hash, blockId);
  assert.ok((await archive.viewAccount({ accountId: ROOT, blockQuery: { blockId } })).amount > 0n);
  step('what is collected is unknown, garbage collected and expired, and an archival endpoint has it');
}

/** Starts a devnet with these flags and returns it, the URL that it serves on, and the key of its root account. */
async function start(flags) {
  const secret = await mkdtemp(join(folder, 'secret-'));
  const own = ['--rpc-addr', '127.0.0.1:0', '--block-time', '100ms', '--account', ROOT, '--secret', secret];
  const devnet = spawn(binary, ['devnet', ...own, ...flags], { stdio: ['ignore', 'pipe', 'inherit'] });
  running.add(devnet);
  devnet.on('exit', () => running.delete(devnet));
  const url = await new Promise((resolve, reject) => {
    devnet.on('error', reject);
    devnet.on('exit', (code) => reject(new Error(`devnet ended with ${code} before it served`)));
    createInterface({ input: devnet.stdout }).on('line', (line) => {
      const [served] = line.match(/http:\/\/\S+/) ?? [];
      if (served) resolve(served);
    });
  });
  const { private_key } = JSON.parse(await readFile(join(secret, 'nearbench-account.json'), 'utf8'));
  return { devnet, url, privateKey: private_key };
}

const [binary] = process.argv.slice(2);
assert.ok(binary, 'usage: check.mjs BINARY');
const folder = await mkdtemp(join(tmpdir(), 'nearbench-near-api-js-'));
const running = new Set();
// Nothing outlives this process, whatever it waits for.
process.on('exit', () => running.forEach((devnet) => devnet.kill('SIGKILL')));
const bound = setTimeout(() => {
  console.error(`near-api-js: not done after ${LONGEST_MS / 1000} s`);
  process.exit(1);
}, LONGEST_MS);
try {
  const shortLived = ['--epoch-length', '10', '--validity-period', '20', '--keep-epochs', '3', '--archival', 'archive'];
  for (const [check, flags] of [[live, []], [forget, shortLived]]) {
    const started = await start(flags);
    await check(started);
    const ended = once(started.devnet, 'exit');
    started.devnet.kill('SIGTERM');
    const [code] = await ended;
    assert.equal(code, 0, 'devnet did not end in order');
  }
  console.log(`near-api-js: all ${steps} steps are as they should be`);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  clearTimeout(bound);
  running.forEach((devnet) => devnet.kill('SIGKILL'));
  await rm(folder, { recursive: true, force: true });
}
