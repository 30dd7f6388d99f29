// The room that is kept free on a node's disk (limits.disk_reserve_bytes): below it whatever grows is answered with 507,
// reads, searches and deletes go on, and once there is room again writes are taken without a restart.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { statfs } from 'node:fs/promises';
import { Hub, until } from '../e2e/hub.mjs';

let hub, tenant;

before(async () => {
    hub = await Hub.start();
    tenant = await hub.tenant('full');
    assert.equal(await status('PUT', '/collections/c', { vectors: { size: 2, distance: 'Dot' } }), 200);
    assert.equal(await status(...upsert(1)), 200);
    assert.equal(await status(...upsert(2)), 200);
});

after(async () => hub?.stop());

async function call(method, target, body) {
    const answer = await fetch(tenant.url + target, {
        method,
        headers: { 'api-key': tenant.key, 'content-type': 'application/json' },
        body: body === undefined ? undefined : JSON.stringify(body),
    });
    return { status: answer.status, body: await answer.json() };
}

const status = async (...request) => (await call(...request)).status;
const upsert = (id) => ['PUT', '/collections/c/points?wait=true', { points: [{ id, vector: [id, 1] }] }];

/** Starts the node anew with so much to be kept free. */
async function restart(reserve) {
    await hub.nodes.eu.stop();
    hub.nodes.eu.env = { ORTHANT_LIMITS_DISK_RESERVE_BYTES: String(reserve) };
    hub.nodes.eu.start();
    await hub.ready('eu');
}

test('a disk below its reserve takes nothing that grows', async () => {
    await restart(2n ** 62n);
    await until('507', async () => (await status(...upsert(3))) === 507);
    const refused = await call(...upsert(3));
    assert.match(refused.body.status.error, /^Insufficient storage: the node's disk is nearly full/);
    assert.equal(await status('POST', '/collections/c/snapshots'), 507);
    const found = await call('POST', '/collections/c/points/query', { query: [1, 1], limit: 5 });
    assert.deepEqual(found.body.result.points.map(({ id }) => id).sort(), [1, 2]);
    assert.equal(await status('POST', '/collections/c/points/delete?wait=true', { points: [1] }), 200);
    const left = await call('POST', '/collections/c/points/scroll', {});
    assert.deepEqual(left.body.result.points.map(({ id }) => id), [2]);
});

test('a disk above it takes everything', async () => {
    const { bavail, bsize } = await statfs(hub.dir);
    await restart(Math.floor((bavail * bsize) / 2));
    await until('200', async () => (await status(...upsert(3))) === 200);
    assert.equal(await status('POST', '/collections/c/snapshots'), 200);
});
