// The official JavaScript client, unmodified, through the whole life of a collection; and two tenants that use
// the same names at the same time.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { QdrantClient } from '@qdrant/js-client-rest';
import { Hub } from './hub.mjs';

let hub, acme, globex, client, other;

const clientOf = (tenant) => new QdrantClient({ url: tenant.url, apiKey: tenant.key });

before(async () => {
    hub = await Hub.start();
    acme = await hub.tenant('acme', { regions: ['eu-central'] });
    globex = await hub.tenant('globex');
    client = clientOf(acme);
    other = clientOf(globex);
});

after(async () => hub?.stop());

/** The status and the error text of a call that must fail. */
async function refused(promise) {
    try {
        await promise;
    } catch (error) {
        return { status: error.status, text: error.data?.status?.error ?? String(error.data ?? error) };
    }
    return assert.fail('the call was not refused');
}

describe('the life of a collection', { concurrency: false }, () => {
    test('the version is one the client accepts', async () => {
        const info = await client.versionInfo();
        assert.match(info.version, /^1\.1[89]\./);
    });

    test('a collection is created, listed, described, and not created twice', async () => {
        assert.deepEqual(await client.getCollections(), { collections: [] });
        assert.equal((await client.collectionExists('docs')).exists, false);
        assert.equal(await client.createCollection('docs', { vectors: { size: 4, distance: 'Dot' } }), true);
        assert.equal((await client.collectionExists('docs')).exists, true);
        assert.deepEqual(await client.getCollections(), { collections: [{ name: 'docs' }] });
        const info = await client.getCollection('docs');
        assert.equal(info.status, 'green');
        assert.equal(info.points_count, 0);
        assert.equal(info.config.params.vectors.size, 4);
        assert.equal(info.config.params.vectors.distance, 'Dot');
        assert.deepEqual(info.payload_schema, {});
        const twice = await refused(client.createCollection('docs', { vectors: { size: 4, distance: 'Dot' } }));
        assert.equal(twice.status, 409);
        assert.match(twice.text, /Wrong input: Collection `docs` already exists!/);
        const missing = await refused(client.getCollection('nope'));
        assert.equal(missing.status, 404);
        assert.match(missing.text, /Not found: Collection `nope` doesn't exist!/);
    });

    test('points go in and come back', async () => {
        const points = [
            { id: 1, vector: [0.05, 0.61, 0.76, 0.74], payload: { city: 'Berlin', n: 1, tags: ['a', 'b'] } },
            { id: 2, vector: [0.19, 0.81, 0.75, 0.11], payload: { city: 'London', n: 2, nested: { deep: [1, { x: null }] } } },
            { id: 3, vector: [0.36, 0.55, 0.47, 0.94], payload: { city: 'Moscow', n: 3 } },
            { id: '5c56c793-69f3-4fbf-87e6-c4bf54c28c26', vector: [0.18, 0.01, 0.85, 0.8], payload: {} },
        ];
        const done = await client.upsert('docs', { wait: true, points });
        assert.equal(done.status, 'completed');
        assert.equal(typeof done.operation_id, 'number');
        const columns = { ids: [10, 11], vectors: [[1, 0, 0, 0], [0, 1, 0, 0]], payloads: [{ city: 'Oslo' }, {}] };
        assert.equal((await client.upsert('docs', { wait: true, batch: columns })).status, 'completed');
        const got = await client.retrieve('docs', { ids: [1, 2, 99], with_vector: true });
        assert.deepEqual(got, [points[0], points[1]].map(({ id, vector, payload }) => ({ id, payload, vector })));
        assert.deepEqual((await client.retrieve('docs', { ids: [points[3].id] }))[0], { id: points[3].id, payload: {} });
        assert.equal((await client.count('docs')).count, 6);
        assert.equal((await client.getCollection('docs')).points_count, 6);
    });

    test('search and query give the same, with filters and thresholds', async () => {
        const vector = [0.2, 0.1, 0.9, 0.7];
        // This client asks for payloads in a search unless told otherwise; in a query it does not.
        const searched = await client.search('docs', { vector, limit: 3, with_payload: false });
        const queried = await client.query('docs', { query: vector, limit: 3 });
        assert.deepEqual(searched.map(({ id }) => id), ['5c56c793-69f3-4fbf-87e6-c4bf54c28c26', 1, 3]);
        assert.deepEqual(queried.points, searched);
        for (let i = 1; i < searched.length; i++) {
            assert.ok(searched[i - 1].score >= searched[i].score);
        }
        assert.equal(searched[0].payload, undefined);
        const filter = { must: [{ key: 'city', match: { any: ['London', 'Moscow'] } }], must_not: [{ key: 'n', range: { gt: 2 } }] };
        const found = await client.search('docs', { vector, limit: 10, filter, with_payload: ['city'], with_vector: true });
        assert.deepEqual(found.map(({ id, payload }) => ({ id, payload })), [{ id: 2, payload: { city: 'London' } }]);
        assert.deepEqual(found[0].vector, [0.19, 0.81, 0.75, 0.11]);
        const above = await client.query('docs', { query: vector, score_threshold: searched[1].score, limit: 10 });
        assert.equal(above.points.length, 2);
        const byId = await client.query('docs', { query: 1, limit: 10, params: { exact: true } });
        assert.ok(byId.points.every(({ id }) => id !== 1));
        assert.equal((await client.query('docs', { limit: 2 })).points.length, 2);
        assert.equal((await client.query('docs', { query: vector, limit: 2, offset: 1 })).points[0].id, 1);
    });

    test('batches answer each search in its place', async () => {
        const none = { must: [{ has_id: [12345] }] };
        const searches = [{ vector: [1, 0, 0, 0], limit: 1 }, { vector: [1, 0, 0, 0], limit: 1, filter: none }];
        const [first, second] = await client.searchBatch('docs', { searches });
        assert.equal(first[0].id, 10);
        assert.deepEqual(second, []);
        const batch = await client.queryBatch('docs', { searches: [{ query: [0, 1, 0, 0], limit: 1 }, { query: [1, 0, 0, 0], filter: none }] });
        assert.equal(batch.length, 2);
        assert.deepEqual(batch[1].points, []);
    });

    test('scroll pages through all of it in order', async () => {
        const ids = [];
        let offset;
        do {
            const page = await client.scroll('docs', { limit: 2, offset, with_payload: false });
            ids.push(...page.points.map(({ id }) => id));
            offset = page.next_page_offset ?? undefined;
        } while (offset !== undefined);
        assert.deepEqual(ids, [1, 2, 3, 10, 11, '5c56c793-69f3-4fbf-87e6-c4bf54c28c26']);
        const empty = await client.scroll('docs', { limit: 999999999, filter: { should: [] } });
        assert.equal(empty.points.length, 6);
    });

    test('payloads are merged, overwritten, thinned and cleared', async () => {
        const payload = async (id) => (await client.retrieve('docs', { ids: [id] }))[0].payload;
        await client.setPayload('docs', { wait: true, payload: { extra: { a: 1 } }, points: [1] });
        assert.deepEqual(await payload(1), { city: 'Berlin', n: 1, tags: ['a', 'b'], extra: { a: 1 } });
        await client.setPayload('docs', { wait: true, payload: { b: 2 }, key: 'extra', points: [1] });
        assert.deepEqual((await payload(1)).extra, { a: 1, b: 2 });
        await client.deletePayload('docs', { wait: true, keys: ['tags', 'extra'], points: [1] });
        assert.deepEqual(await payload(1), { city: 'Berlin', n: 1 });
        await client.overwritePayload('docs', { wait: true, payload: { only: true }, filter: { must: [{ key: 'city', match: { value: 'London' } }] } });
        assert.deepEqual(await payload(2), { only: true });
        await client.clearPayload('docs', { wait: true, points: [2] });
        assert.deepEqual(await payload(2), {});
    });

    test('vectors are replaced', async () => {
        await client.updateVectors('docs', { wait: true, points: [{ id: 11, vector: [0, 0, 1, 0] }] });
        assert.deepEqual((await client.retrieve('docs', { ids: [11], with_vector: true }))[0].vector, [0, 0, 1, 0]);
    });

    test('a batch of operations is applied in order', async () => {
        const results = await client.batchUpdate('docs', {
            wait: true,
            operations: [
                { upsert: { points: [{ id: 20, vector: [1, 1, 1, 1], payload: { x: 1 } }] } },
                { set_payload: { payload: { y: 2 }, points: [20] } },
                { delete: { points: [11] } },
            ],
        });
        assert.deepEqual(results.map(({ status }) => status), ['completed', 'completed', 'completed']);
        assert.deepEqual((await client.retrieve('docs', { ids: [20, 11] })), [{ id: 20, payload: { x: 1, y: 2 } }]);
    });

    test('points are deleted by id and by filter', async () => {
        await client.delete('docs', { wait: true, points: [20, 404] });
        assert.equal((await client.count('docs')).count, 5);
        await client.delete('docs', { wait: true, filter: { must: [{ key: 'city', match: { value: 'Moscow' } }] } });
        assert.equal((await client.count('docs')).count, 4);
    });

    test('aliases stand for collections', async () => {
        await client.updateCollectionAliases({ actions: [{ create_alias: { collection_name: 'docs', alias_name: 'now' } }] });
        assert.deepEqual((await client.getAliases()).aliases, [{ alias_name: 'now', collection_name: 'docs' }]);
        assert.deepEqual((await client.getCollectionAliases('docs')).aliases, [{ alias_name: 'now', collection_name: 'docs' }]);
        assert.equal((await client.count('now')).count, 4);
        assert.equal((await client.collectionExists('now')).exists, true);
        await client.updateCollectionAliases({ actions: [{ delete_alias: { alias_name: 'now' } }] });
        assert.equal((await client.collectionExists('now')).exists, false);
    });

    test('named and sparse vectors live side by side', async () => {
        await client.createCollection('mixed', {
            vectors: { small: { size: 2, distance: 'Cosine' }, far: { size: 3, distance: 'Euclid' } },
            sparse_vectors: { words: {} },
        });
        const info = await client.getCollection('mixed');
        assert.equal(info.config.params.vectors.small.distance, 'Cosine');
        assert.ok('words' in info.config.params.sparse_vectors);
        await client.upsert('mixed', {
            wait: true,
            points: [
                { id: 1, vector: { small: [3, 4], far: [0, 0, 0], words: { indices: [7, 1], values: [0.5, 2] } } },
                { id: 2, vector: { small: [4, 3], far: [3, 4, 0] } },
                { id: 3, vector: { words: { indices: [7], values: [3] } } },
            ],
        });
        const [one] = await client.retrieve('mixed', { ids: [1], with_vector: true });
        assert.deepEqual(one.vector.words, { indices: [1, 7], values: [2, 0.5] });
        assert.deepEqual(one.vector.small, [0.6, 0.8]);
        const near = await client.query('mixed', { query: [0, 0, 0], using: 'far', limit: 2 });
        assert.deepEqual(near.points.map(({ id, score }) => [id, score]), [[1, 0], [2, 5]]);
        const sparse = await client.query('mixed', { query: { indices: [7], values: [1] }, using: 'words', limit: 5 });
        assert.deepEqual(sparse.points.map(({ id, score }) => [id, score]), [[3, 3], [1, 0.5]]);
        const named = await client.search('mixed', { vector: { name: 'small', vector: [3, 4] }, limit: 1, with_vector: ['far'] });
        assert.deepEqual(named[0].vector, { far: [0, 0, 0] });
        await client.deleteVectors('mixed', { wait: true, points: [1], vector: ['words'] });
        assert.equal((await client.query('mixed', { query: { indices: [1], values: [1] }, using: 'words' })).points.length, 0);
        const unknown = await refused(client.query('mixed', { query: [1, 2], using: 'nope' }));
        assert.equal(unknown.status, 400);
        assert.match(unknown.text, /Not existing vector name error: nope/);
    });

    test('what does not fit is refused in words', async () => {
        const dim = await refused(client.upsert('docs', { wait: false, points: [{ id: 1, vector: [1, 2, 3] }] }));
        assert.equal(dim.status, 400);
        assert.match(dim.text, /Wrong input: Vector dimension error: expected dim: 4, got 3/);
        const id = await refused(client.upsert('docs', { points: [{ id: 'not-an-id', vector: [1, 2, 3, 4] }] }));
        assert.equal(id.status, 400);
        assert.match(id.text, /is not a valid point ID, valid values are either an unsigned integer or a UUID/);
    });

    test('everything is there after a restart, and gone after a delete', async () => {
        const was = await client.scroll('docs', { limit: 100, with_vector: true });
        await hub.nodes.eu.stop();
        hub.nodes.eu.start();
        await hub.ready('eu');
        assert.deepEqual(await client.scroll('docs', { limit: 100, with_vector: true }), was);
        assert.equal(await client.deleteCollection('mixed'), true);
        assert.equal(await client.deleteCollection('docs'), true);
        assert.equal(await client.deleteCollection('docs'), false);
        assert.deepEqual(await client.getCollections(), { collections: [] });
    });
});

describe('two tenants with the same names', { concurrency: false }, () => {
    test('each sees its own and nothing else', async () => {
        for (const [who, mark] of [[client, 'acme'], [other, 'globex']]) {
            await who.createCollection('same', { vectors: { size: 2, distance: 'Dot' } });
            await who.upsert('same', { wait: true, points: [{ id: 1, vector: [1, 0], payload: { mark } }] });
        }
        await other.upsert('same', { wait: true, points: [{ id: 2, vector: [1, 0], payload: { mark: 'globex' } }] });
        await other.createCollection('only-globex', { vectors: { size: 2, distance: 'Dot' } });
        for (const [who, mark, count] of [[client, 'acme', 1], [other, 'globex', 2]]) {
            assert.equal((await who.count('same')).count, count);
            const seen = [
                ...(await who.scroll('same', { limit: 10 })).points,
                ...(await who.search('same', { vector: [1, 0], limit: 10, with_payload: true })),
                ...(await who.query('same', { query: [1, 0], limit: 10, with_payload: true })).points,
                ...(await who.retrieve('same', { ids: [1, 2] })),
            ];
            assert.ok(seen.every(({ payload }) => payload.mark === mark));
        }
        assert.deepEqual((await client.getCollections()).collections, [{ name: 'same' }]);
        assert.equal((await client.collectionExists('only-globex')).exists, false);
        assert.equal((await refused(client.count('only-globex'))).status, 404);
        await client.delete('same', { wait: true, filter: {} });
        await client.deleteCollection('same');
        assert.equal((await other.count('same')).count, 2);
    });
});
