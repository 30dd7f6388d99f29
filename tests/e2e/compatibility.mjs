// Makes docs/reference/compatibility.md from the tests: `node tests/e2e/compatibility.mjs > docs/reference/compatibility.md`.
// recorded.test.mjs fails when the page is behind.
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = new URL('./', import.meta.url);
const read = (name) => readFileSync(new URL(name, here), 'utf8');

/** What runs here: package, test file, what for. */
const running = [
    ['@qdrant/js-client-rest', 'qdrant_js', 'Official JavaScript client, with `search`', 'collections, points, payloads, search and query, batches, scroll, aliases, named and sparse vectors, restart'],
    ['qdrant-js-1.19', 'qdrant_js_next', 'Official JavaScript client, `query` alone', 'the whole query API, hybrid search from text, lookups, vectors by name, snapshots, strict mode'],
    ['@langchain/qdrant', 'frameworks', 'LangChain JS', 'documents, scores, filters, marginal relevance, deletes, retriever'],
    ['@llamaindex/qdrant', 'frameworks', 'LlamaIndex TS', 'nodes, metadata filters of every operator, documents deleted whole'],
    ['mem0ai', 'frameworks', 'mem0 TS', 'memories added, searched, changed, listed, forgotten'],
];

export function page() {
    const { dependencies } = JSON.parse(read('package.json'));
    const version = (name) => dependencies[name].replace(/^npm:.*@/, '');
    const lines = [
        '# Clients and frameworks that work',
        '',
        'Made from the tests by `tests/e2e/compatibility.mjs`; each row is run by `tests/run e2e`. Clients are unmodified: only URL and key are',
        'Orthant\'s.',
        '',
        '## Run as they are, from npm',
        '',
        '| client | version | what is run | test |',
        '| --- | --- | --- | --- |',
    ];
    for (const [name, file, title, what] of running) {
        const tests = [...read(`${file}.test.mjs`).matchAll(/^ +test\(/gm)].length;
        lines.push(`| ${title} (\`${name}\`) | ${version(name)} | ${what} | \`${file}.test.mjs\` (${tests}) |`);
    }
    lines.push(
        '',
        '## Replayed: recorded requests, with the answers\' fields that the client goes on with',
        '',
        '| client | what is replayed | calls |',
        '| --- | --- | --- |',
    );
    for (const file of readdirSync(new URL('recorded/', here)).filter((name) => name.endsWith('.json')).sort()) {
        const { client, what, steps } = JSON.parse(read(`recorded/${file}`));
        lines.push(`| ${client} | ${what} | ${steps.length} (\`recorded/${file}\`) |`);
    }
    lines.push(
        '',
        '## Not served',
        '',
        'gRPC (port 6334): the Java, Go, .NET and Rust clients speak nothing else, and with them Spring AI, LangChain4j and Semantic',
        'Kernel. Python clients work with `prefer_grpc=False`, which is their default.',
        '',
    );
    return lines.join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    process.stdout.write(page());
}
