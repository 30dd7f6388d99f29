// LangChain JS, LlamaIndex TS and mem0 TS from npm, unmodified, each through a real life of its use. Texts become
// vectors by counting words (a framework wants an embedder; which one does not matter here).
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Hub } from './hub.mjs';

const old = Number(process.versions.node.split('.')[0]) < 20 ? 'these packages want Node 20' : false;
const DIM = 64;

let hub, acme;

before(async () => {
    if (!old) {
        hub = await Hub.start();
        acme = await hub.tenant('acme');
    }
});

after(async () => hub?.stop());

/** Words into DIM buckets; never all zero. */
function embed(text) {
    const v = new Array(DIM).fill(0.01);
    for (const word of text.toLowerCase().match(/[a-z]+/g) ?? []) {
        let h = 2166136261;
        for (const c of word) {
            h = Math.imul(h ^ c.charCodeAt(0), 16777619) >>> 0;
        }
        v[h % DIM] += 1;
    }
    return v;
}

const embedder = {
    embedDocuments: async (texts) => texts.map(embed),
    embedQuery: async (text) => embed(text),
};

describe('LangChain JS', { concurrency: false, skip: old }, () => {
    let store;
    before(async () => {
        const { QdrantVectorStore } = await import('@langchain/qdrant');
        const docs = [
            { pageContent: 'cats purr and sleep', metadata: { source: 'a', page: 1 } },
            { pageContent: 'dogs bark and run', metadata: { source: 'b', page: 2 } },
            { pageContent: 'cats chase mice', metadata: { source: 'b', page: 3 } },
        ];
        store = await QdrantVectorStore.fromDocuments(docs, embedder, {
            url: acme.url,
            apiKey: acme.key,
            collectionName: 'langchain',
        });
    });

    test('documents are found by likeness, with scores and filters', async () => {
        const found = await store.similaritySearchWithScore('purring cats sleep', 2);
        assert.equal(found[0][0].pageContent, 'cats purr and sleep');
        assert.deepEqual(found[0][0].metadata, { source: 'a', page: 1 });
        assert.ok(found[0][1] >= found[1][1] && found[0][1] <= 1.0001);
        const filter = { must: [{ key: 'metadata.source', match: { value: 'b' } }] };
        const only = await store.similaritySearch('cats', 5, filter);
        assert.deepEqual(only.map(({ pageContent }) => pageContent).sort(), ['cats chase mice', 'dogs bark and run']);
        assert.equal((await store.similaritySearch('cats', 5, {})).length, 3);
    });

    test('marginal relevance gives different ones', async () => {
        const found = await store.maxMarginalRelevanceSearch('cats', { k: 2, fetchK: 3, lambda: 0.9 });
        assert.equal(found.length, 2);
        assert.match(found[0].pageContent, /cats/);
        assert.equal((await store.maxMarginalRelevanceSearch('cats', { k: 2 })).length, 2); // diversity: null
    });

    test('documents are added under ids of their own and deleted by id and by filter', async () => {
        const id = '0f4b7d4e-7a4e-4f2e-9e0a-3f4f8a1f6a01';
        await store.addDocuments([{ pageContent: 'birds sing', metadata: { source: 'c' } }], { ids: [id] });
        assert.equal((await store.similaritySearch('birds sing', 1))[0].pageContent, 'birds sing');
        await store.delete({ ids: [id] });
        assert.ok((await store.similaritySearch('birds sing', 9)).every((d) => d.pageContent !== 'birds sing'));
        await store.delete({ filter: { must: [{ key: 'metadata.source', match: { value: 'b' } }] } });
        assert.equal((await store.similaritySearch('cats', 9)).length, 1);
    });

    test('an existing collection is taken over', async () => {
        const { QdrantVectorStore } = await import('@langchain/qdrant');
        const again = await QdrantVectorStore.fromExistingCollection(embedder, {
            url: acme.url,
            apiKey: acme.key,
            collectionName: 'langchain',
        });
        assert.equal((await again.asRetriever({ k: 1 }).invoke('cats'))[0].pageContent, 'cats purr and sleep');
    });

    test('a refused write tells why', async () => {
        const bad = store.addVectors([[1, 2, 3]], [{ pageContent: 'x', metadata: {} }]);
        await assert.rejects(bad, /400 .*Vector dimension error: expected dim: 64, got 3/);
    });
});

describe('LlamaIndex TS', { concurrency: false, skip: old }, () => {
    let store, core;
    before(async () => {
        const { QdrantVectorStore } = await import('@llamaindex/qdrant');
        core = await import('@llamaindex/core/schema');
        // Its base class asks for an embedding model when it is made; every node here brings its own vector.
        const embedModel = { getTextEmbedding: async (text) => embed(text) };
        store = new QdrantVectorStore({
            url: acme.url,
            apiKey: acme.key,
            collectionName: 'llamaindex',
            embedModel,
        });
    });

    const id = (n) => `00000000-0000-4000-8000-00000000000${n}`;
    const nodeOf = (n, text, metadata) =>
        new core.TextNode({
            id_: id(n),
            text,
            metadata,
            embedding: embed(text),
            relationships: { [core.NodeRelationship.SOURCE]: { nodeId: `doc-${n % 2}`, metadata: {}, hash: 'h' } },
        });

    test('nodes go in', async () => {
        const texts = ['red apples', 'green pears', 'yellow bananas', 'blue berries', 'red cherries'];
        const nodes = texts.map((text, i) => nodeOf(i + 1, text, { color: text.split(' ')[0], n: i + 1 }));
        assert.deepEqual(await store.add(nodes), [1, 2, 3, 4, 5].map(id));
    });

    test('they are found by vector, by metadata and by document', async () => {
        const ask = (text, rest = {}) =>
            store.query({ queryEmbedding: embed(text), similarityTopK: 3, mode: 'default', ...rest });
        const found = await ask('red apples');
        assert.equal(found.ids[0], id(1));
        assert.equal(found.nodes[0].text, 'red apples');
        assert.ok(found.similarities[0] > found.similarities[1]);
        const by = (filters, condition = 'and') => ask('fruit', { filters: { filters, condition } });
        assert.deepEqual((await by([{ key: 'color', value: 'red', operator: '==' }])).ids.sort(), [id(1), id(5)]);
        assert.deepEqual((await by([{ key: 'n', value: 2, operator: '==' }])).ids, [id(2)]);
        assert.deepEqual((await by([{ key: 'n', value: 4, operator: '>=' }])).ids.sort(), [id(4), id(5)]);
        assert.deepEqual((await by([{ key: 'color', value: ['blue', 'green'], operator: 'in' }])).ids.sort(), [id(2), id(4)]);
        assert.equal((await by([{ key: 'color', value: 'red', operator: '!=' }])).ids.length, 3);
        assert.deepEqual((await by([{ key: 'color', value: 'yell', operator: 'text_match' }])).ids, [id(3)]);
        const either = [{ key: 'n', value: 1, operator: '==' }, { key: 'color', value: 'blue', operator: '==' }];
        assert.deepEqual((await by(either, 'or')).ids.sort(), [id(1), id(4)]);
        const ofDoc = await ask('fruit', { docIds: ['doc-0'] });
        assert.deepEqual(ofDoc.ids.sort(), [id(2), id(4)]);
    });

    test('a document is deleted with its nodes', async () => {
        await store.delete('doc-1');
        const left = await store.query({ queryEmbedding: embed('red'), similarityTopK: 9, mode: 'default' });
        assert.deepEqual(left.ids.sort(), [id(2), id(4)]);
    });
});

/** What mem0 asks of OpenAI: embeddings, and one word of chat. */
async function startModel() {
    const server = createServer(async (request, response) => {
        let text = '';
        for await (const part of request) {
            text += part;
        }
        const body = JSON.parse(text);
        const inputs = [body.input].flat();
        const answer = request.url.endsWith('/embeddings')
            ? { object: 'list', data: inputs.map((input, index) => ({ index, object: 'embedding', embedding: embed(String(input)) })) }
            : { choices: [{ message: { role: 'assistant', content: '{"facts":[],"memory":[]}' } }] };
        response.setHeader('content-type', 'application/json');
        response.end(JSON.stringify(answer));
    });
    await new Promise((done) => server.listen(0, '127.0.0.1', done));
    return server;
}

describe('mem0 TS', { concurrency: false, skip: old }, () => {
    let model, memory;
    before(async () => {
        process.env.MEM0_TELEMETRY = 'false';
        model = await startModel();
        const openai = { apiKey: 'none', baseURL: `http://127.0.0.1:${model.address().port}/v1` };
        const { Memory } = await import('mem0ai/oss');
        memory = new Memory({
            version: 'v1.1',
            llm: { provider: 'openai', config: { ...openai, model: 'm' } },
            embedder: { provider: 'openai', config: { ...openai, model: 'e', embeddingDims: DIM } },
            vectorStore: {
                provider: 'qdrant',
                config: { url: acme.url, apiKey: acme.key, collectionName: 'memories', dimension: DIM, embeddingModelDims: DIM },
            },
            historyDbPath: path.join(hub.dir, 'history.db'),
        });
    });
    after(() => model?.close());

    test('memories are kept, found, changed, listed and forgotten', async () => {
        const add = async (text, userId) => (await memory.add(text, { userId, infer: false })).results[0].id;
        const tea = await add('likes green tea in the morning', 'ann');
        await add('plays chess on sundays', 'ann');
        await add('likes green tea with milk', 'bob');
        const found = await memory.search('green tea', { filters: { user_id: 'ann' }, topK: 5 });
        assert.equal(found.results[0].memory, 'likes green tea in the morning');
        assert.ok(found.results.every((m) => !m.memory.includes('milk')));
        assert.equal((await memory.get(tea)).memory, 'likes green tea in the morning');
        await memory.update(tea, 'likes black coffee');
        assert.equal((await memory.get(tea)).memory, 'likes black coffee');
        const all = await memory.getAll({ filters: { user_id: 'ann' }, topK: 10 });
        assert.deepEqual(all.results.map((m) => m.memory).sort(), ['likes black coffee', 'plays chess on sundays']);
        await memory.delete(tea);
        assert.equal(await memory.get(tea), null);
        assert.equal((await memory.history(tea)).length >= 2, true);
        await memory.deleteAll({ userId: 'ann' });
        assert.equal((await memory.getAll({ filters: { user_id: 'ann' } })).results.length, 0);
        assert.equal((await memory.getAll({ filters: { user_id: 'bob' } })).results.length, 1);
    });

    test('its bookkeeping collection takes a vector of nothing', async () => {
        const answer = await fetch(`${acme.url}/collections/memory_migrations`, { headers: { 'api-key': acme.key } });
        const { result } = await answer.json();
        assert.equal(result.config.params.vectors.size, 1);
    });
});
