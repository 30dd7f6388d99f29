// orthant-node, the program, is killed with SIGKILL under mixed load of two tenants, again and again: no write that
// was answered OK is lost, no batch is there by half, and nothing is there of the other tenant. test_node_kill does
// the same to a node without a hub, four times as often and with more kinds of requests.
//
// Every writer owns groups of five points and changes each group by one request at a time, so that a group's state
// is a single number: the request that made it last. After each restart a group must be in the state of its last
// answered request, or of the one that was under way when the node died; and its five points must agree. A collection
// that comes and goes, and a snapshot, are such states too.
//
//   ORT_FAULT_ROUNDS   kills; unset: 100, or as many as fit into 60 s
//   ORT_FAULT_SEED     repeats a run's choices (printed)
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Hub, sleep } from '../e2e/hub.mjs';

const rounds = Number(process.env.ORT_FAULT_ROUNDS ?? 100);
const secondsMax = process.env.ORT_FAULT_ROUNDS === undefined ? 60 : Infinity;
const seed = Number(process.env.ORT_FAULT_SEED ?? Math.floor(Math.random() * 2 ** 31));
const TENANTS = 2;
const WRITERS = 2; // of each
const GROUPS = 6;
const MEMBERS = 5;

let state = seed >>> 0;
function random(n) {
    // Marsaglia's xorshift; the sequence, not the timing, is what a seed repeats.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % n;
}

let hub;
const tenants = [];

before(async () => {
    // Starting two thousand threads, and ending them, is most of a round otherwise.
    hub = await Hub.start({ nodes: [{ name: 'eu', region: 'eu-central', env: { ORTHANT_HTTP_THREADS: '64' } }] });
    for (let i = 0; i < TENANTS; i++) {
        tenants.push(await hub.tenant(`load-${i}`));
        const made = await call(i, 'PUT', '/collections/c', {
            vectors: { size: 8, distance: 'Dot' },
            optimizers_config: { indexing_threshold: 1 },
        });
        assert.equal(made.status, 200);
    }
});

after(async () => hub?.stop());

async function call(tenant, method, target, body) {
    const answer = await fetch(tenants[tenant].url + target, {
        method,
        headers: { 'api-key': tenants[tenant].key, 'content-type': 'application/json' },
        body: body === undefined ? undefined : JSON.stringify(body),
    });
    return { status: answer.status, body: await answer.json() };
}

const ids = (group) => Array.from({ length: MEMBERS }, (_, i) => group * MEMBERS + i + 1);

const points = (tenant, group, mark) =>
    ids(group).map((id) => ({ id, vector: Array(8).fill((mark % 1000) / 8), payload: { tenant, group, mark } }));

/** A request that brings the five points of a group into the state `mark`, or takes them away. */
function request(kind, tenant, group, mark) {
    const c = '/collections/c/points';
    const filter = { must: [{ key: 'group', match: { value: group } }] };
    switch (kind) {
        case 'upsert':
            return ['PUT', `${c}?wait=true`, { points: points(tenant, group, mark) }];
        case 'update filter':
            return ['PUT', `${c}?wait=true`, { points: points(tenant, group, mark), update_filter: filter }];
        case 'batch':
            return ['POST', `${c}/batch?wait=true`, { operations: [{ upsert: { points: points(tenant, group, mark) } }] }];
        case 'payload':
            return ['POST', `${c}/payload?wait=true`, { payload: { mark }, points: ids(group) }];
        case 'payload by filter':
            return ['POST', `${c}/payload?wait=true`, { payload: { mark }, filter }];
        case 'delete by filter':
            return ['POST', `${c}/delete?wait=true`, { filter }];
        default:
            return ['POST', `${c}/delete?wait=true`, { points: ids(group) }];
    }
}
const MAKING = ['upsert', 'batch', 'update filter'];
const KINDS = [...MAKING, 'payload', 'payload by filter', 'delete', 'delete by filter'];

// A thing and its state. sure: of the last answered request; maybe: of those without an answer. A state is a mark,
// or 0 for "not there".
const thing = () => ({ sure: 0, maybe: [] });
const book = Array.from({ length: TENANTS }, () => ({
    groups: Array.from({ length: WRITERS * GROUPS }, thing),
    side: thing(),
    snapshot: { ...thing(), name: '' },
}));
let mark = 0;
let answered = 0;

/** Makes one request; false: the node was killed, and it may have been done. */
async function change(known, after, tenant, method, target, body) {
    let answer;
    known.maybe.push(after);
    try {
        answer = await call(tenant, method, target, body);
    } catch {
        return false;
    }
    if (answer.status !== 200) {
        throw new Error(`${method} ${target}: ${answer.status} ${JSON.stringify(answer.body)}`);
    }
    assert.equal(answer.body.status, 'ok');
    known.sure = after;
    known.maybe = [];
    answered++;
    return answer.body;
}

async function write(tenant, writer, stopped) {
    while (!stopped.now) {
        const group = writer * GROUPS + random(GROUPS);
        const known = book[tenant].groups[group];
        const kinds = known.sure === 0 ? MAKING : KINDS;
        const kind = kinds[random(kinds.length)];
        const mine = ++mark;
        if (!(await change(known, kind.startsWith('delete') ? 0 : mine, tenant, ...request(kind, tenant, group, mine)))) {
            return;
        }
    }
}

/** A collection, a snapshot, a payload index: made and taken away. */
async function keep(tenant, stopped) {
    const { side, snapshot } = book[tenant];
    const list = '/collections/c/snapshots';
    const steps = [
        () =>
            side.sure === 0
                ? change(side, 1, tenant, 'PUT', '/collections/side', { vectors: { size: 8, distance: 'Dot' } })
                : change(side, 0, tenant, 'DELETE', '/collections/side'),
        async () => {
            if (snapshot.sure !== 0) {
                return change(snapshot, 0, tenant, 'DELETE', `${list}/${snapshot.name}`);
            }
            const made = await change(snapshot, 1, tenant, 'POST', list);
            snapshot.name = made ? made.result.name : '';
            return made;
        },
        () => change(thing(), 1, tenant, 'PUT', '/collections/c/index?wait=true', { field_name: 'group', field_schema: 'integer' }),
        () => change(thing(), 1, tenant, 'DELETE', '/collections/c/index/group?wait=true'),
    ];
    while (!stopped.now && (await steps[random(steps.length)]())) {
        await sleep(random(10));
    }
}

async function read(tenant, stopped) {
    while (!stopped.now) {
        try {
            const answer = await call(tenant, 'POST', '/collections/c/points/query', { query: Array(8).fill(1), limit: 20 });
            assert.equal(answer.status, 200);
        } catch (error) {
            if (error instanceof assert.AssertionError) {
                throw error;
            }
            return;
        }
    }
}

/** What is seen is what was answered, or what may have been done. */
function settle(known, seen, where) {
    const told = `seed ${seed} ${where}: ${seen} (answered ${known.sure}, asked ${known.maybe})`;
    assert.ok(seen === known.sure || known.maybe.includes(seen), `an answered write is lost: ${told}`);
    known.sure = seen;
    known.maybe = [];
}

/** Compares what is there with what may be there. */
async function look(tenant, round) {
    const { groups, side, snapshot } = book[tenant];
    const where = `round ${round} tenant ${tenant}`;
    const { status, body } = await call(tenant, 'POST', '/collections/c/points/scroll', { limit: 1000 });
    assert.equal(status, 200);
    const found = new Map(body.result.points.map(({ id, payload }) => [id, payload]));
    groups.forEach((known, group) => {
        const seen = ids(group).map((id) => found.get(id)?.mark ?? 0);
        assert.ok(seen.every((m) => m === seen[0]), `half a batch: seed ${seed} ${where} group ${group}: ${seen}`);
        settle(known, seen[0], `${where} group ${group}`);
    });
    assert.ok([...found.values()].every((payload) => payload.tenant === tenant), `another tenant's: ${where}`);
    const count = await call(tenant, 'POST', '/collections/c/points/count', {});
    assert.equal(count.body.result.count, found.size);
    const names = (await call(tenant, 'GET', '/collections')).body.result.collections.map(({ name }) => name);
    settle(side, names.includes('side') ? 1 : 0, `${where} side`);
    assert.equal(names.length, side.sure === 0 ? 1 : 2);
    const snapshots = (await call(tenant, 'GET', '/collections/c/snapshots')).body.result;
    assert.ok(snapshots.length <= 1, where);
    settle(snapshot, snapshots.length, `${where} snapshot`);
    snapshot.name = snapshots[0]?.name ?? '';
}

test('kills under load lose nothing', { timeout: 20 * 60 * 1000 }, async () => {
    console.log(`seed ${seed}`);
    const begin = Date.now();
    const each = Array.from({ length: TENANTS }, (_, t) => t);
    let round = 0;
    for (; round < rounds && (Date.now() - begin) / 1000 < secondsMax; round++) {
        const stopped = { now: false };
        const load = each.flatMap((t) => [
            ...Array.from({ length: WRITERS }, (_, w) => write(t, w, stopped)),
            keep(t, stopped),
            read(t, stopped),
        ]);
        await sleep(20 + random(120));
        await hub.nodes.eu.stop('SIGKILL');
        stopped.now = true;
        await Promise.all(load);
        hub.nodes.eu.start();
        await hub.ready('eu');
        await Promise.all(each.map((t) => look(t, round)));
    }
    console.log(`${round} kills, ${answered} answered writes, ${((Date.now() - begin) / 1000).toFixed(1)} s`);
    assert.ok(answered >= round && round >= Math.min(rounds, 20), 'the load was too light to mean anything');
});
