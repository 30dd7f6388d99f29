// Data nodes in a hub: forwarding and regions, keys that come and go, tenants that go, a control plane that is
// gone, and a stop that loses nothing.
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Hub, sleep, until } from './hub.mjs';

let hub;

before(async () => {
    hub = await Hub.start({
        nodes: [
            { name: 'eu', region: 'eu-central' },
            { name: 'us', region: 'us-east' },
        ],
    });
});

after(async () => hub?.stop());

async function ask(url, key, method, target, body) {
    const headers = key === null ? {} : { 'api-key': key };
    const answer = await fetch(url + target, { method, headers, body: body && JSON.stringify(body) });
    return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

const create = { vectors: { size: 2, distance: 'Dot' } };
const points = (mark) => ({ points: [{ id: 1, vector: [1, 0], payload: { mark } }] });

async function fill(url, key, mark) {
    assert.equal((await ask(url, key, 'PUT', '/collections/c', create)).status, 200);
    assert.equal((await ask(url, key, 'PUT', '/collections/c/points?wait=true', points(mark))).status, 200);
}

/** The node that holds the tenant, and one that does not. */
async function homeOf(name) {
    const placement = await hub.admin('GET', `/v1/tenants/${name}/placement`);
    const nodes = Object.values(hub.nodes);
    return {
        home: nodes.find((node) => node.url === placement.endpoint),
        other: nodes.find((node) => node.url !== placement.endpoint),
    };
}

/** Until the node answers the key at all: tables take a moment to arrive. */
async function answered(url, key, status = 200) {
    return until(`${status} at ${url}`, async () => (await ask(url, key, 'GET', '/collections')).status === status);
}

describe('a hub of two nodes', { concurrency: false }, () => {
    test('any node answers any tenant that is not pinned', async () => {
        const { key } = await hub.tenant('roamer');
        const { home, other } = await homeOf('roamer');
        await answered(other.url, key);
        await fill(other.url, key, 'through the other');
        for (const node of [home, other]) {
            const got = await ask(node.url, key, 'GET', '/collections/c/points/1');
            assert.match(got.text, /"mark":"through the other"/);
            assert.match(got.headers.get('content-type'), /application\/json/);
        }
        const missing = await ask(other.url, key, 'GET', '/collections/none');
        assert.equal(missing.status, 404);
        assert.match(missing.text, /Not found: Collection `none` doesn't exist!/);
        // A megabyte there and back.
        const big = { points: [{ id: 2, vector: [0, 1], payload: { text: 'x'.repeat(1 << 20) } }] };
        assert.equal((await ask(other.url, key, 'PUT', '/collections/c/points?wait=true', big)).status, 200);
        assert.ok((await ask(other.url, key, 'GET', '/collections/c/points/2')).text.length > 1 << 20);
    });

    test('a pinned tenant is answered in its region alone', async () => {
        const { key } = await hub.tenant('pinned', { regions: ['us-east'], at: 'us' });
        await answered(hub.nodes.eu.url, key, 421);
        const refused = await ask(hub.nodes.eu.url, key, 'PUT', '/collections/c', create);
        assert.equal(refused.status, 421);
        assert.ok(refused.text.includes(hub.nodes.us.url), refused.text);
        await fill(hub.nodes.us.url, key, 'us only');
        // Not a byte of it under the other node's directory.
        const { id } = await hub.admin('GET', '/v1/tenants/pinned');
        assert.ok(existsSync(path.join(hub.dir, 'us/tenants', id)));
        assert.ok(!existsSync(path.join(hub.dir, 'eu/tenants', id)));
    });

    test('a revoked key is refused on every node', async () => {
        const { key } = await hub.tenant('revoker');
        const { home, other } = await homeOf('revoker');
        await answered(home.url, key);
        await answered(other.url, key);
        const list = await hub.admin('GET', '/v1/tenants/revoker/keys');
        // How soon is measured by tests/bench/bench_revoke.c.
        await hub.admin('DELETE', `/v1/tenants/revoker/keys/${list.items[0].id}`);
        await Promise.all([answered(home.url, key, 401), answered(other.url, key, 401)]);
        assert.equal((await ask(home.url, key, 'GET', '/collections')).text, 'Invalid API key or JWT');
    });

    test('a suspended tenant is 403, a resumed one is back', async () => {
        const { key } = await hub.tenant('pauser');
        const { home } = await homeOf('pauser');
        await hub.admin('POST', '/v1/tenants/pauser/suspend');
        await answered(home.url, key, 403);
        await hub.admin('POST', '/v1/tenants/pauser/resume');
        await answered(home.url, key);
    });

    test('the data of a deleted tenant goes away', async () => {
        const { key } = await hub.tenant('leaver');
        const { home } = await homeOf('leaver');
        await fill(home.url, key, 'to go');
        const { id } = await hub.admin('GET', '/v1/tenants/leaver');
        const dir = path.join(home.dir, home.name, 'tenants', id);
        assert.ok(existsSync(dir));
        await hub.deleteTenant('leaver');
        await until('401 or 403', async () => [401, 403].includes((await ask(home.url, key, 'GET', '/collections')).status));
        await until('directory gone', () => !existsSync(dir));
        await until('trash swept', () => readdirSync(path.join(home.dir, home.name, 'trash')).length === 0);
    });

    test('a quota set over the admin API holds, and usage is told', async () => {
        const { key } = await hub.tenant('small', { overrides: { max_vectors: 3 } });
        const { home } = await homeOf('small');
        await fill(home.url, key, 'one');
        const three = { points: [2, 3, 4].map((id) => ({ id, vector: [0, 1] })) };
        const over = await ask(home.url, key, 'PUT', '/collections/c/points?wait=true', three);
        assert.equal(over.status, 507);
        assert.match(over.text, /Insufficient storage: /);
        three.points.pop();
        assert.equal((await ask(home.url, key, 'PUT', '/collections/c/points?wait=true', three)).status, 200);
        await until('usage', async () => (await hub.admin('GET', '/v1/tenants/small/quota')).usage.vectors === 3, 10000);
    });

    test('metrics are Prometheus text with units and bounded labels', async () => {
        const { text } = await ask(hub.nodes.eu.url, null, 'GET', '/metrics');
        for (const name of [
            'orthant_search_latency_seconds_bucket',
            'orthant_cpu_usage_ratio',
            'orthant_memory_usage_bytes',
            'orthant_memory_limit_bytes',
            'orthant_request_queue_depth',
            'orthant_table_age_seconds',
            'orthant_table_lag_versions',
            'orthant_tenant_requests_total',
        ]) {
            assert.ok(text.includes(`\n${name}`), `${name} is missing`);
        }
        assert.ok(!/_bucket\{[^}]*tenant=/.test(text));
    });

    test('with the control plane dead, nodes answer, also after their own restart', async () => {
        const { key } = await hub.tenant('stable');
        const { home, other } = await homeOf('stable');
        await fill(home.url, key, 'before');
        await answered(other.url, key);
        await hub.control.stop('SIGKILL');
        assert.equal((await ask(home.url, key, 'PUT', '/collections/c/points?wait=true', points('during'))).status, 200);
        await home.stop('SIGKILL');
        home.start();
        await hub.ready(home.name);
        assert.match((await ask(home.url, key, 'GET', '/collections/c/points/1')).text, /"mark":"during"/);
        assert.equal((await ask(home.url, key, 'PUT', '/collections/c/points?wait=true', points('after'))).status, 200);
        // The other node finds its way back to the restarted one by itself.
        await until(
            'forwarded read',
            async () => /"mark":"after"/.test((await ask(other.url, key, 'GET', '/collections/c/points/1')).text),
        );
        hub.control.start();
        await until('control plane', async () => (await fetch(`${hub.adminUrl}/readyz`)).ok);
        await hub.key('stable');
    });

    test('a stop answers what is in work, and turns away what is new', async () => {
        const { key } = await hub.tenant('stopper');
        const { home } = await homeOf('stopper');
        await fill(home.url, key, 'x');
        const writes = Array.from({ length: 20 }, (_, i) => {
            const one = { points: [{ id: 100 + i, vector: [1, 1] }] };
            return ask(home.url, key, 'PUT', '/collections/c/points?wait=true', one).catch(() => ({ status: 0 }));
        });
        await sleep(5);
        const how = await home.stop('SIGTERM');
        assert.equal(how.code, 0);
        const statuses = (await Promise.all(writes)).map(({ status }) => status);
        home.start();
        await hub.ready(home.name);
        const { text } = await ask(home.url, key, 'POST', '/collections/c/points/count', {});
        const count = JSON.parse(text).result.count - 1;
        assert.ok(count >= statuses.filter((status) => status === 200).length, `${statuses} but ${count} points`);
        assert.ok(statuses.every((status) => [0, 200, 503].includes(status)), `${statuses}`);
    });
});
