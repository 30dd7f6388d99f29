// The orthant command against a whole hub: what it prints, how it ends, and that an import goes on where it
// stopped.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Hub, until } from './hub.mjs';

const top = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const program = path.join(process.env.ORT_BIN_DIR ?? path.join(top, 'build/check/bin'), 'orthant');

let hub, env;

/** Runs orthant; resolves to {code, out, err}. */
function orthant(args, { extra = {}, killAfterMs } = {}) {
    return new Promise((done) => {
        const child = spawn(program, args, { env: { ...env, ...extra }, stdio: ['ignore', 'pipe', 'pipe'] });
        let out = '';
        let err = '';
        child.stdout.on('data', (chunk) => (out += chunk));
        child.stderr.on('data', (chunk) => (err += chunk));
        child.on('close', (code, signal) => done({ code, signal, out, err }));
        if (killAfterMs !== undefined) {
            setTimeout(() => child.kill('SIGKILL'), killAfterMs);
        }
    });
}

/** The same, must end with 0; gives its JSON. */
async function json(...args) {
    const ran = await orthant(['-o', 'json', ...args]);
    assert.equal(ran.code, 0, ran.err);
    return ran.out.trim() === '' ? null : JSON.parse(ran.out);
}

before(async () => {
    hub = await Hub.start();
    env = {
        PATH: process.env.PATH,
        HOME: hub.dir,
        ORTHANT_CONFIG: path.join(hub.dir, 'contexts.json'),
        ORTHANT_ADMIN_URL: hub.adminUrl,
        ORTHANT_ADMIN_TOKEN: hub.adminToken,
        ORTHANT_URL: hub.nodes.eu.url,
        OPENBLAS_NUM_THREADS: '1',
    };
    await json('tenant', 'create', 'acme', '--region', 'eu-central');
    await json('quota', 'set', 'acme', '--max-requests-per-minute', 'none', '--max-vectors', '2k');
    env.ORTHANT_API_KEY = (await json('key', 'create', 'acme', '--name', 'app')).token;
    await until('the key at the node', async () => (await orthant(['collection', 'list'])).code === 0);
});

after(async () => hub?.stop());

describe('the command line', () => {
    test('shows what there is, to people and to programs', async () => {
        const tenants = await json('tenant', 'list');
        assert.deepEqual(tenants.map((tenant) => tenant.name), ['acme']);
        assert.equal((await json('quota', 'get', 'acme')).limits.max_vectors, 2000);
        const table = await orthant(['node', 'list']);
        assert.match(table.out, /^ID +NAME/);
        assert.match(table.out, /eu-central/);
        assert.equal((await json('audit', 'verify')).intact, true);
        const doctor = await orthant(['doctor']);
        assert.equal(doctor.code, 0, doctor.out);
    });

    test('ends with a code for each kind of failure', async () => {
        assert.equal((await orthant(['nonsense'])).code, 2);
        assert.equal((await orthant(['tenant', 'list', '--nope'])).code, 2);
        assert.equal((await orthant(['tenant', 'get', 'nobody'])).code, 4);
        assert.equal((await orthant(['tenant', 'create', 'acme'])).code, 5);
        assert.equal((await orthant(['tenant', 'create', 'No Slug'])).code, 8);
        assert.equal((await orthant(['collection', 'list'], { extra: { ORTHANT_API_KEY: 'wrong' } })).code, 3);
        assert.equal((await orthant(['tenant', 'list'], { extra: { ORTHANT_ADMIN_TOKEN: 'wrong' } })).code, 3);
        assert.equal((await orthant(['tenant', 'delete', 'acme'])).code, 1, 'nobody said yes');
    });

    test('imports, goes on after a kill, searches and exports the same', async () => {
        const points = [];
        for (let id = 1; id <= 1500; id++) {
            points.push({ id, vector: [Math.fround(Math.sin(id)), Math.fround(Math.cos(id)), 0.5], payload: { id } });
        }
        const file = path.join(hub.dir, 'points.jsonl');
        await writeFile(file, points.map((point) => JSON.stringify(point)).join('\n'));
        const args = ['import', 'docs', file, '--create', '--dim', '3', '--distance', 'Dot', '--batch', '5'];
        await orthant(args, { killAfterMs: 400 });
        const again = await orthant(args);
        assert.equal(again.code, 0, again.err);
        await assert.rejects(stat(`${file}.orthant-progress`), 'nothing is left to go on with');
        assert.equal((await json('collection', 'count', 'docs')).count, 1500);

        const hits = await json('query', 'docs', '--vector', '[1, 0, 0]', '--limit', '3', '--exact');
        const best = points.slice().sort((a, b) => b.vector[0] - a.vector[0]);
        assert.deepEqual(hits.map((hit) => hit.id), best.slice(0, 3).map((point) => point.id));

        const copy = path.join(hub.dir, 'copy.jsonl');
        assert.equal((await orthant(['export', 'docs', copy])).code, 0);
        const back = (await readFile(copy, 'utf8')).trim().split('\n').map((line) => JSON.parse(line));
        assert.deepEqual(back.map((point) => point.id), points.map((point) => point.id));
        assert.deepEqual(back.map((point) => point.vector.map(Math.fround)), points.map((point) => point.vector));
        assert.deepEqual(back[7].payload, { id: 8 });
    });

    test('searches by words, by vectors and by both', async () => {
        const file = path.join(hub.dir, 'texts.jsonl');
        const texts = ['the cat sleeps on the mat', 'a dog barks at the moon', 'cats and dogs play in the garden'];
        const points = texts.map((text, i) => ({
            id: i + 1,
            vector: { '': [Number(i === 1), Number(i !== 1), 0.1], text: { text, model: 'qdrant/bm25' } },
            payload: { text },
        }));
        await writeFile(file, points.map((point) => JSON.stringify(point)).join('\n'));
        const made = await orthant(['import', 'texts', file, '--create', '--dim', '3', '--text-vector', 'text']);
        assert.equal(made.code, 0, made.err);
        const ids = async (...args) => (await json('query', 'texts', ...args)).map((hit) => hit.id);
        assert.deepEqual(await ids('--text', 'barking'), [2]);
        assert.deepEqual(new Set(await ids('--text', 'cat')), new Set([1, 3]));
        assert.deepEqual(await ids('--vector', '[1, 0, 0]', '--limit', '1'), [2]);
        assert.equal((await ids('--vector', '[1, 0, 0]', '--text', 'a dog')).length, 3);
        assert.equal((await orthant(['collection', 'create', 'nothing'])).code, 2);
        assert.equal((await orthant(['collection', 'delete', 'texts', '--yes'])).code, 0);
    });

    test('says which quota an import met, and keeps what is stored', async () => {
        const file = path.join(hub.dir, 'more.jsonl');
        const lines = Array.from({ length: 1000 }, (_, i) => JSON.stringify({ id: 5000 + i, vector: [1, 2, 3] }));
        await writeFile(file, lines.join('\n'));
        const ran = await orthant(['import', 'docs', file, '--batch', '50', '--parallel', '3']);
        assert.equal(ran.code, 6, ran.err);
        assert.match(ran.err, /507.*quota/s);
        assert.equal((await json('collection', 'count', 'docs')).count, 2000, 'every place was usable');
    });

    test('keeps contexts in a file that only its owner reads', async () => {
        const made = await orthant(['context', 'set', 'test', '--admin-url', hub.adminUrl, '--admin-token', hub.adminToken]);
        assert.equal(made.code, 0, made.err);
        assert.equal((await stat(env.ORTHANT_CONFIG)).mode & 0o777, 0o600);
        const bare = { ORTHANT_ADMIN_URL: '', ORTHANT_ADMIN_TOKEN: '' };
        assert.equal((await orthant(['tenant', 'list', '--context', 'test'], { extra: bare })).code, 0);
        assert.equal((await orthant(['tenant', 'list', '--context', 'other'], { extra: bare })).code, 2);
    });

    test('backs a tenant up, restores it as another, and clones it', async () => {
        const file = path.join(hub.dir, 'acme.orthant');
        const made = await json('tenant', 'backup', 'acme', file);
        assert.equal(made.bytes, (await stat(file)).size);
        assert.equal(made.sha256, createHash('sha256').update(await readFile(file)).digest('hex'));
        assert.equal((await stat(file)).mode & 0o077, 0, 'for its owner alone');
        await assert.rejects(stat(`${file}.part`));

        await json('tenant', 'create', 'globex', '--region', 'eu-central');
        const restored = await json('tenant', 'restore', 'globex', file);
        assert.deepEqual([restored.collections, restored.points], [1, 2000]);
        const again = await orthant(['tenant', 'restore', 'globex', file]);
        assert.equal(again.code, 5, again.err);
        assert.match(again.err, /409.*1 collections.*replace/s);
        assert.equal((await orthant(['tenant', 'restore', 'globex', file, '--replace'])).code, 1, 'nobody said yes');
        assert.equal((await orthant(['tenant', 'restore', 'globex', file, '--replace', '--yes'])).code, 0);
        const key = (await json('key', 'create', 'globex', '--name', 'app')).token;
        const count = async (token) => {
            const extra = { ORTHANT_API_KEY: token };
            const ran = await until('the key at the node', async () => {
                const once = await orthant(['-o', 'json', 'collection', 'count', 'docs'], { extra });
                return once.code === 0 ? once : null;
            });
            return JSON.parse(ran.out).count;
        };
        assert.equal(await count(key), 2000);

        const cloned = await json('tenant', 'clone', 'acme', 'acme-test');
        assert.deepEqual([cloned.tenant, cloned.points], ['acme-test', 2000]);
        assert.equal((await json('quota', 'get', 'acme-test')).limits.max_vectors, 2000, 'limits came along');
        assert.equal(await count((await json('key', 'create', 'acme-test', '--name', 'app')).token), 2000);

        await writeFile(file, 'no backup at all');
        const bad = await orthant(['tenant', 'restore', 'globex', file, '--replace', '--yes']);
        assert.equal(bad.code, 8, bad.err);
        assert.equal(await count(key), 2000, 'as it was');
        assert.equal((await orthant(['tenant', 'backup', 'nobody'])).code, 4);
        assert.equal((await orthant(['tenant', 'backup'])).code, 2);
        for (const name of ['globex', 'acme-test']) {
            assert.equal((await orthant(['tenant', 'delete', name, '--yes', '--wait'])).code, 0);
        }
    });

    test('deletes a tenant and waits until its data is gone', async () => {
        const ran = await orthant(['tenant', 'delete', 'acme', '--yes', '--wait']);
        assert.equal(ran.code, 0, ran.err);
        assert.deepEqual(await json('tenant', 'list'), []);
    });
});
