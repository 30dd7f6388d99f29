// The official JavaScript client of 1.19, unmodified: it has `query` and no `search`. What it knows of the query API,
// of vectors by name, of snapshots, each once, with the answers checked by hand.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Hub } from './hub.mjs';

const old = Number(process.versions.node.split('.')[0]) < 20 ? 'this client wants Node 20' : false;
let hub, acme, client;

before(async () => {
    if (!old) {
        const { QdrantClient } = await import('qdrant-js-1.19');
        hub = await Hub.start();
        acme = await hub.tenant('acme');
        client = new QdrantClient({ url: acme.url, apiKey: acme.key });
    }
});

after(async () => hub?.stop());

async function refused(promise) {
    try {
        await promise;
    } catch (error) {
        return { status: error.status, text: error.data?.status?.error ?? String(error.data ?? error) };
    }
    return assert.fail('the call was not refused');
}

const ids = (answer) => answer.points.map(({ id }) => id);

describe('the client of 1.19', { concurrency: false, skip: old }, () => {
    test('finds a version it accepts', async () => {
        assert.match((await client.versionInfo()).version, /^1\.1[89]\./);
    });

    test('a collection with dense, sparse and multivectors', async () => {
        await client.createCollection('c', {
            vectors: {
                d: { size: 2, distance: 'Cosine' },
                m: { size: 2, distance: 'Dot', multivector_config: { comparator: 'max_sim' } },
            },
            sparse_vectors: { s: { modifier: 'idf' } },
            metadata: { owner: 'tests' },
        });
        const place = (lon, lat) => ({ lon, lat });
        const text = (words) => ({ text: words, model: 'qdrant/bm25' });
        const points = [
            { id: 1, vector: { d: [1, 0], m: [[1, 0], [0, 1]], s: text('red apples and green apples') }, payload: { n: 10, tag: 'a', at: '2024-01-01T00:00:00Z', where: place(13.4, 52.5) } },
            { id: 2, vector: { d: [0.9, 0.1], m: [[2, 0]], s: text('a green pear') }, payload: { n: 20, tag: 'b', at: '2024-02-01', where: place(2.35, 48.86) } },
            { id: 3, vector: { d: [0, 1], s: text('a red car') }, payload: { n: 30, tag: 'a', at: '2024-03-01 12:00:00', where: place(-0.13, 51.5) } },
            { id: 4, vector: { d: [-1, 0] }, payload: { n: 40, tag: 'b' } },
        ];
        assert.equal((await client.upsert('c', { points })).status, 'completed');
        for (const [field, schema] of [['n', 'integer'], ['tag', 'keyword'], ['at', 'datetime'], ['where', 'geo']]) {
            await client.createPayloadIndex('c', { wait: true, field_name: field, field_schema: schema });
        }
        const info = await client.getCollection('c');
        assert.equal(info.points_count, 4);
        assert.equal(info.payload_schema.n.data_type, 'integer');
        assert.deepEqual(info.config.metadata, { owner: 'tests' });
    });

    test('nearest by vector, by id, by several rows, by words', async () => {
        assert.deepEqual(ids(await client.query('c', { query: [1, 0], using: 'd', limit: 2 })), [1, 2]);
        assert.deepEqual(ids(await client.query('c', { query: 1, using: 'd', limit: 1 })), [2]);
        const multi = await client.query('c', { query: [[1, 0]], using: 'm', limit: 2 });
        assert.deepEqual(multi.points.map(({ id, score }) => [id, score]), [[2, 2], [1, 1]]);
        const words = await client.query('c', { query: { text: 'Apple', model: 'Qdrant/bm25' }, using: 's', limit: 5 });
        assert.deepEqual(ids(words), [1]);
        assert.ok(words.points[0].score > 0);
    });

    test('hybrid search in one request', async () => {
        const answer = await client.query('c', {
            prefetch: [
                { query: [0, 1], using: 'd', limit: 4 },
                { query: { text: 'red things', model: 'qdrant/bm25' }, using: 's', limit: 4 },
            ],
            query: { fusion: 'rrf' },
            limit: 3,
        });
        assert.equal(answer.points[0].id, 3);
        const weighted = await client.query('c', {
            prefetch: [{ query: [1, 0], using: 'd', limit: 4 }, { query: [0, 1], using: 'd', limit: 4 }],
            query: { rrf: { k: 2, weights: [1, 0.01] } },
            limit: 1,
        });
        assert.deepEqual(ids(weighted), [1]);
        const dbsf = await client.query('c', { prefetch: [{ query: [1, 0], using: 'd' }], query: { fusion: 'dbsf' }, limit: 4 });
        assert.equal(dbsf.points[0].id, 1);
    });

    test('recommend, discover, context', async () => {
        for (const strategy of ['average_vector', 'best_score', 'sum_scores']) {
            const query = { recommend: { positive: [1], negative: [4], strategy } };
            const found = ids(await client.query('c', { query, using: 'd', limit: 4 }));
            assert.equal(found[0], 2, strategy);
            assert.ok(!found.includes(1) && !found.includes(4), strategy);
        }
        const discover = { discover: { target: [1, 0.2], context: [{ positive: 1, negative: 4 }] } };
        assert.equal(ids(await client.query('c', { query: discover, using: 'd', limit: 2 }))[0], 2);
        const context = { context: [{ positive: [1, 0], negative: [-1, 0] }] };
        const found = await client.query('c', { query: context, using: 'd', limit: 4 });
        assert.equal(found.points.at(-1).id, 4);
        assert.ok(found.points.every(({ score }) => score <= 0));
    });

    test('orders, samples, formulas, marginal relevance', async () => {
        const ordered = await client.query('c', { query: { order_by: { key: 'n', direction: 'desc' } }, limit: 2 });
        assert.deepEqual(ids(ordered), [4, 3]);
        const page = await client.scroll('c', { order_by: { key: 'at', direction: 'asc' }, limit: 2 });
        assert.deepEqual(page.points.map(({ id }) => id), [1, 2]);
        assert.equal(page.next_page_offset, null);
        const sample = await client.query('c', { query: { sample: 'random' }, limit: 3 });
        assert.equal(new Set(ids(sample)).size, 3);
        const formula = await client.query('c', {
            prefetch: { query: [1, 0], using: 'd', limit: 4 },
            query: { formula: { sum: ['$score', { mult: [10, { key: 'tag', match: { value: 'b' } }] }] } },
            limit: 4,
        });
        assert.deepEqual(ids(formula).slice(0, 2), [2, 4]);
        const near = await client.query('c', {
            prefetch: { query: [1, 0], using: 'd', limit: 3 },
            query: { formula: { gauss_decay: { x: { geo_distance: { origin: { lon: 2.35, lat: 48.86 }, to: 'where' } }, scale: 5000 } }, defaults: { where: { lon: 0, lat: 0 } } },
            limit: 1,
        });
        assert.deepEqual(ids(near), [2]);
        const mmr = await client.query('c', { query: { nearest: [1, 0], mmr: { diversity: 1, candidates_limit: 10 } }, using: 'd', limit: 2 });
        assert.deepEqual(ids(mmr), [1, 4]);
    });

    test('groups, facets, matrices, batches', async () => {
        const { groups } = await client.queryGroups('c', { query: [1, 0], using: 'd', group_by: 'tag', group_size: 1, limit: 2 });
        assert.deepEqual(groups.map(({ id, hits }) => [id, hits[0].id]), [['a', 1], ['b', 2]]);
        assert.deepEqual((await client.facet('c', { key: 'tag' })).hits, [{ value: 'a', count: 2 }, { value: 'b', count: 2 }]);
        const { pairs } = await client.searchMatrixPairs('c', { using: 'd', sample: 4, limit: 1 });
        assert.equal(pairs.length, 4);
        const offsets = await client.searchMatrixOffsets('c', { using: 'd', sample: 4, limit: 1 });
        assert.equal(offsets.offsets_row.length, 4);
        assert.equal(offsets.ids.length, 4);
        const batch = await client.queryBatch('c', { searches: [{ query: 1, using: 'd', limit: 1 }, { limit: 2 }] });
        assert.deepEqual(batch.map(({ points }) => points.length), [1, 2]);
    });

    test('another collection lends its vectors and its payloads', async () => {
        await client.createCollection('other', { vectors: { size: 2, distance: 'Cosine' } });
        await client.upsert('other', { points: [{ id: 7, vector: [0, 1], payload: { of: 'a' } }] });
        const lent = await client.query('c', { query: 7, using: 'd', lookup_from: { collection: 'other', vector: '' }, limit: 1 });
        assert.deepEqual(ids(lent), [3]);
        const missing = await refused(client.query('c', { query: 7, using: 'd', lookup_from: { collection: 'nope' } }));
        assert.equal(missing.status, 404);
        assert.match(missing.text, /Not found: Collection nope not found/);
    });

    test('vectors are added to a collection and taken from it', async () => {
        await client.createVectorName('c', 'late', { dense: { size: 2, distance: 'Dot' } });
        await client.updateVectors('c', { points: [{ id: 1, vector: { late: [3, 4] } }] });
        assert.deepEqual(ids(await client.query('c', { query: [1, 1], using: 'late', limit: 5 })), [1]);
        await client.deleteVectorName('c', 'late');
        const gone = await refused(client.query('c', { query: [1, 1], using: 'late' }));
        assert.match(gone.text, /Not existing vector name error: late/);
        assert.equal((await client.count('c')).count, 4);
    });

    test('snapshots are made, listed, restored and deleted', async () => {
        const made = await client.createSnapshot('c');
        assert.equal((await client.listSnapshots('c')).length, 1);
        const file = await fetch(`${acme.url}/collections/c/snapshots/${made.name}`, { headers: { 'api-key': acme.key } });
        const bytes = Buffer.from(await file.arrayBuffer());
        assert.equal(bytes.length, made.size);
        const form = new FormData();
        form.set('snapshot', new Blob([bytes]), made.name);
        const upload = await fetch(`${acme.url}/collections/copy/snapshots/upload?priority=snapshot&wait=true`, {
            method: 'POST',
            headers: { 'api-key': acme.key },
            body: form,
        });
        assert.equal(upload.status, 200, await upload.text());
        const everything = { limit: 100, with_vector: true };
        assert.deepEqual((await client.scroll('copy', everything)).points, (await client.scroll('c', everything)).points);
        const url = await refused(client.recoverSnapshot('c', { location: 'http://127.0.0.1:1/x' }));
        assert.equal(url.status, 400);
        assert.equal(await client.deleteSnapshot('c', made.name), true);
        assert.deepEqual(await client.listSnapshots('c'), []);
    });

    test('settings are merged and removed', async () => {
        await client.updateCollection('c', { metadata: { owner: null, more: 1 }, hnsw_config: { ef_construct: 200 }, vectors: { d: { hnsw_config: { m: 24 } } } });
        const { config } = await client.getCollection('c');
        assert.deepEqual(config.metadata, { more: 1 });
        assert.equal(config.hnsw_config.ef_construct, 200);
        assert.equal(config.params.vectors.d.hnsw_config.m, 24);
        await client.updateCollection('c', { strict_mode_config: { enabled: true, max_query_limit: 3 } });
        const strict = await refused(client.query('c', { query: [1, 0], using: 'd', limit: 4 }));
        assert.match(strict.text, /Limit exceeded 4 > 3 for "limit"/);
    });

    test('what is the operator\'s is refused', async () => {
        assert.ok([403, 404, 405, 501].includes((await refused(client.getQuotas())).status));
        assert.ok([400, 403, 405, 501].includes((await refused(client.createShardKey('c', { shard_key: 'a' }))).status));
    });
});
