// Tenants that go from one node to another, and files larger than what a node may hold in memory.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Hub, until } from './hub.mjs';

const top = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const program = path.join(process.env.ORT_BIN_DIR ?? path.join(top, 'build/check/bin'), 'orthant');
const MiB = 1 << 20;

let hub;

before(async () => {
    // What the address sanitizer keeps of freed memory would be most of what is measured.
    process.env.ORT_ASAN_MORE = ':quarantine_size_mb=1:thread_local_quarantine_size_kb=64';
    const extra = 'limits:\n  memory_bytes: 33554432\n';
    hub = await Hub.start({
        nodes: [
            { name: 'eu', region: 'eu-central', extra },
            { name: 'eu2', region: 'eu-central', extra },
            { name: 'us', region: 'us-east', extra },
        ],
    });
});

after(async () => hub?.stop());

function orthant(...args) {
    return new Promise((done) => {
        const env = {
            PATH: process.env.PATH,
            HOME: hub.dir,
            ORTHANT_CONFIG: path.join(hub.dir, 'contexts.json'),
            ORTHANT_ADMIN_URL: hub.adminUrl,
            ORTHANT_ADMIN_TOKEN: hub.adminToken,
            TMPDIR: hub.dir,
        };
        const child = spawn(program, ['-o', 'json', ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
        let out = '';
        let err = '';
        child.stdout.on('data', (chunk) => (out += chunk));
        child.stderr.on('data', (chunk) => (err += chunk));
        child.on('close', (code) => done({ code, out, err }));
    });
}

async function json(...args) {
    const ran = await orthant(...args);
    assert.equal(ran.code, 0, ran.err);
    return JSON.parse(ran.out);
}

async function ask(url, key, method, target, body) {
    const answer = await fetch(url + target, { method, headers: { 'api-key': key }, body: body && JSON.stringify(body) });
    const text = await answer.text();
    assert.equal(answer.status, 200, text);
    return JSON.parse(text).result;
}

async function homeOf(name) {
    const { endpoint } = await hub.admin('GET', `/v1/tenants/${name}/placement`);
    return Object.values(hub.nodes).find((node) => node.url === endpoint);
}

/** Tenants until there is one on each of two nodes: placement spreads them. */
async function onTwoNodes(prefix, regions) {
    const first = { name: `${prefix}0`, ...(await hub.tenant(`${prefix}0`, { regions })) };
    first.home = await homeOf(first.name);
    for (let i = 1; i < 20; i++) {
        const name = `${prefix}${i}`;
        const other = { name, ...(await hub.tenant(name, { regions })) };
        other.home = await homeOf(name);
        if (other.home !== first.home) {
            return [first, other];
        }
    }
    throw new Error('twenty tenants have their homes on one node');
}

async function fill({ url, key }, count) {
    await ask(url, key, 'PUT', '/collections/docs', { vectors: { size: 3, distance: 'Dot' } });
    const points = Array.from({ length: count }, (_, i) => ({ id: i, vector: [i, 1, 0.5], payload: { i } }));
    await ask(url, key, 'PUT', '/collections/docs/points?wait=true', { points });
    await ask(url, key, 'POST', '/collections/aliases', {
        actions: [{ create_alias: { collection_name: 'docs', alias_name: 'live' } }],
    });
}

const all = ({ url, key }) =>
    ask(url, key, 'POST', '/collections/live/points/scroll', { limit: 1000, with_payload: true, with_vector: true });

/** Bytes of memory of its own that a process has now. */
async function ownBytes(node) {
    const text = await readFile(`/proc/${node.child.pid}/status`, 'utf8');
    return Number(text.match(/RssAnon:\s+(\d+) kB/)[1]) * 1024;
}

/** The most that a node took on while this ran. */
async function growth(node, work) {
    const before = await ownBytes(node);
    let most = before;
    let running = true;
    const watch = (async () => {
        while (running) {
            most = Math.max(most, await ownBytes(node));
            await new Promise((done) => setTimeout(done, 10));
        }
    })();
    try {
        return [await work(), () => most - before];
    } finally {
        running = false;
        await watch;
    }
}

describe('tenants that move', { concurrency: false }, () => {
    test('a clone goes from one node to another', async () => {
        const [from, to] = await onTwoNodes('roamer', ['eu-central']);
        await fill(from, 500);
        const done = await json('tenant', 'clone', from.name, to.name);
        assert.deepEqual([done.tenant, done.collections, done.points], [to.name, 1, 500]);
        assert.deepEqual(await all(to), await all(from));
        assert.deepEqual(await readdir(path.join(hub.dir)).then((names) => names.filter((n) => /tmp/i.test(n))), []);

        // Not over what is there, unless it is said.
        const again = await orthant('tenant', 'clone', from.name, to.name);
        assert.equal(again.code, 5, again.err);
        assert.equal((await orthant('tenant', 'clone', from.name, to.name, '--replace', '--yes')).code, 0);
        assert.equal((await all(to)).points.length, 500);

        // Who was given leave, for which tenant: both halves are in the audit.
        const { items } = await hub.admin('GET', '/v1/audit?op=grant.issue&limit=500');
        const ops = items.map((record) => Object.values(record.after)[0]).map((row) => `${row.op} ${row.tenant}`);
        assert.ok(ops.includes(`backup ${from.tenant.id}`) && ops.includes(`restore ${to.tenant.id}`), ops.join());
        assert.ok(items.every((record) => record.actor.length > 0 && !JSON.stringify(record).includes('orthg1_')));
    });

    test('a pinned tenant goes to no node outside its regions', async () => {
        const pinned = { name: 'pinned', ...(await hub.tenant('pinned', { regions: ['eu-central'] })) };
        await fill(pinned, 10);
        await hub.tenant('abroad', { regions: ['us-east'], at: 'us' });
        const ran = await orthant('tenant', 'clone', 'pinned', 'abroad');
        assert.notEqual(ran.code, 0);
        assert.match(ran.err, /421.*pinned to eu-central/s);
    });

    // 64 MiB of payloads (ORT_LARGE_MIB: more), on nodes that may keep 32 MiB of collections in memory: what a
    // backup, its way to a file and back, and a restore take has a bound of its own.
    test('a backup larger than memory passes through blocks', { timeout: 240000 }, async () => {
        const mebibytes = Number(process.env.ORT_LARGE_MIB ?? 64);
        const [from, to] = await onTwoNodes('large', ['eu-central']);
        await ask(from.url, from.key, 'PUT', '/collections/docs', { vectors: { size: 2, distance: 'Dot' } });
        const count = mebibytes * 256;
        for (let i = 0; i < count; i += 512) {
            const points = Array.from({ length: 512 }, (_, k) => ({
                id: i + k,
                vector: [i, k],
                payload: { text: randomBytes(2048).toString('hex') },
            }));
            await ask(from.url, from.key, 'PUT', '/collections/docs/points?wait=true', { points });
        }
        const file = path.join(hub.dir, 'large.orthant');
        const [made, took] = await growth(from.home, () => json('tenant', 'backup', from.name, file));
        assert.equal(made.bytes, (await stat(file)).size);
        assert.ok(made.bytes > mebibytes * 0.48 * MiB, `${made.bytes} bytes`);
        assert.ok(took() < 32 * MiB, `a backup of ${made.bytes} bytes took ${took()} bytes of memory`);
        const [restored, more] = await growth(to.home, () => json('tenant', 'restore', to.name, file));
        assert.equal(restored.points, count);
        assert.ok(more() < 48 * MiB, `its restore took ${more()} bytes of memory`);
        console.log(`# ${made.bytes} bytes: backup +${took()}, restore +${more()} bytes of memory`);
        assert.equal((await ask(to.url, to.key, 'POST', '/collections/docs/points/count', { exact: true })).count, count);
        await until('the node to have sent all of it', async () => {
            const folder = path.join(hub.dir, from.home.name, 'tenants', from.tenant.id, 'snapshots');
            return (await readdir(folder).catch(() => [])).length === 0;
        });
    });

    // Runs last: the nodes are stopped. Whatever a node writes, verify knows it.
    test('verify knows every file of a real node', async () => {
        for (const name of Object.keys(hub.nodes)) {
            await hub.nodes[name].stop();
            const ran = await new Promise((done) => {
                const child = spawn(`${program}-node`, ['verify', path.join(hub.dir, name)], { stdio: ['ignore', 'pipe', 'pipe'] });
                let out = '';
                child.stdout.on('data', (chunk) => (out += chunk));
                child.stderr.on('data', (chunk) => (out += chunk));
                child.on('close', (code) => done({ code, out }));
            });
            assert.equal(ran.code, 0, ran.out);
            assert.match(ran.out, / 0 damaged, 0 repaired, 0 notes/);
        }
    });
});
