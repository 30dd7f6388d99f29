// orthant-node is killed with SIGKILL under mixed load, again and again: no write that was answered OK is lost, and
// no batch is there by half.
//
// Every writer owns groups of five points and changes each group by one request at a time, so that a group's state
// is a single number: the request that made it last. After each restart a group must be in the state of its last
// answered request, or of the one that was under way when the node died; and its five points must agree.
//
//   ORT_FAULT_ROUNDS   kills; unset: 200, or as many as fit into 150 s
//   ORT_FAULT_SEED     repeats a run's choices (printed)
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Hub, sleep } from '../e2e/hub.mjs';

const rounds = Number(process.env.ORT_FAULT_ROUNDS ?? 200);
const secondsMax = process.env.ORT_FAULT_ROUNDS === undefined ? 150 : Infinity;
const seed = Number(process.env.ORT_FAULT_SEED ?? Math.floor(Math.random() * 2 ** 31));
const WRITERS = 4;
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

let hub, tenant;

before(async () => {
    hub = await Hub.start();
    tenant = await hub.tenant('load');
    const made = await call('PUT', '/collections/c', { vectors: { size: 8, distance: 'Dot' } });
    assert.equal(made.status, 200);
});

after(async () => hub?.stop());

async function call(method, target, body) {
    const answer = await fetch(tenant.url + target, {
        method,
        headers: { 'api-key': tenant.key, 'content-type': 'application/json' },
        body: JSON.stringify(body),
    });
    return { status: answer.status, body: await answer.json() };
}

const ids = (group) => Array.from({ length: MEMBERS }, (_, i) => group * MEMBERS + i + 1);

/** The five points of a group, all marked with the request that makes them. */
function request(kind, group, mark) {
    const points = ids(group);
    switch (kind) {
        case 'upsert': {
            const body = points.map((id) => ({ id, vector: Array(8).fill((mark % 1000) / 8), payload: { mark, kind } }));
            return ['PUT', '/collections/c/points?wait=true', { points: body }];
        }
        case 'payload':
            return ['PUT', '/collections/c/points/payload?wait=true', { payload: { mark, kind }, points }];
        case 'batch':
            return [
                'POST',
                '/collections/c/points/batch?wait=true',
                { operations: [{ upsert: { points: points.map((id) => ({ id, vector: Array(8).fill(1), payload: { mark, kind } })) } }] },
            ];
        default:
            return ['POST', '/collections/c/points/delete?wait=true', { points }];
    }
}

// group → { sure: the state of the last answered request, maybe: those of requests without an answer }
// A state is a mark, or 0 for "not there".
const groups = Array.from({ length: WRITERS * GROUPS }, () => ({ sure: 0, maybe: [] }));
let mark = 0;
let answered = 0;

async function write(writer, stopped) {
    while (!stopped.now) {
        const group = writer * GROUPS + random(GROUPS);
        const known = groups[group];
        if (known.maybe.length > 0) {
            continue; // not again before its state has been looked at
        }
        const kinds = known.sure === 0 ? ['upsert', 'batch'] : ['upsert', 'batch', 'payload', 'payload', 'delete'];
        const kind = kinds[random(kinds.length)];
        const mine = ++mark;
        const after = kind === 'delete' ? 0 : mine;
        known.maybe.push(after);
        let answer;
        try {
            answer = await call(...request(kind, group, mine));
        } catch {
            return; // killed: it may have been done
        }
        if (answer.status !== 200) {
            throw new Error(`${kind}: ${answer.status} ${JSON.stringify(answer.body)}`);
        }
        assert.equal(answer.body.status, 'ok');
        known.sure = after;
        known.maybe = [];
        answered++;
    }
}

async function read(stopped) {
    while (!stopped.now) {
        try {
            const answer = await call('POST', '/collections/c/points/query', { query: Array(8).fill(1), limit: 20 });
            assert.equal(answer.status, 200);
        } catch (error) {
            if (error instanceof assert.AssertionError) {
                throw error;
            }
            return;
        }
    }
}

/** Compares what is there with what may be there. */
async function look(round) {
    const all = groups.flatMap((_, group) => ids(group));
    const { status, body } = await call('POST', '/collections/c/points', { ids: all });
    assert.equal(status, 200);
    const marks = new Map(body.result.map(({ id, payload }) => [id, payload.mark]));
    groups.forEach((known, group) => {
        const seen = ids(group).map((id) => marks.get(id) ?? 0);
        const where = `seed ${seed} round ${round} group ${group}: ${seen} (answered ${known.sure}, asked ${known.maybe})`;
        assert.ok(seen.every((m) => m === seen[0]), `half a batch: ${where}`);
        assert.ok(seen[0] === known.sure || known.maybe.includes(seen[0]), `an answered write is lost: ${where}`);
        known.sure = seen[0];
        known.maybe = [];
    });
    const count = await call('POST', '/collections/c/points/count', {});
    assert.equal(count.body.result.count, marks.size);
}

test('kills under load lose nothing', { timeout: 20 * 60 * 1000 }, async () => {
    console.log(`seed ${seed}`);
    const begin = Date.now();
    let round = 0;
    for (; round < rounds && (Date.now() - begin) / 1000 < secondsMax; round++) {
        const stopped = { now: false };
        const load = [...Array.from({ length: WRITERS }, (_, w) => write(w, stopped)), read(stopped)];
        await sleep(20 + random(120));
        await hub.nodes.eu.stop('SIGKILL');
        stopped.now = true;
        await Promise.all(load);
        hub.nodes.eu.start();
        await hub.ready('eu');
        await look(round);
    }
    console.log(`${round} kills, ${answered} answered writes, ${((Date.now() - begin) / 1000).toFixed(1)} s`);
    assert.ok(answered >= round && round >= Math.min(rounds, 20), 'the load was too light to mean anything');
});
