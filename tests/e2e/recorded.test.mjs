// Clients that do not run here (Python and others): their requests as the compatibility notes and the clients' sources
// have them, replayed byte for byte in shape, and the fields of the answers that they go on with.
//
// recorded/NAME.json: {"client", "what", "steps": [{"do", "method", "path", "headers"?, "body"?, "status"?, "answer"?}]}
// `answer` is a part of the body that must be there: objects by their members, arrays in full, "$..." as told below.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { page } from './compatibility.mjs';
import { Hub } from './hub.mjs';

const here = new URL('recorded/', import.meta.url);
let hub;

before(async () => {
    hub = await Hub.start();
});

after(async () => hub?.stop());

/** "$number", "$string", "$bool", "$absent", "$any", "$near:0.5" (1e-4), "$match:regexp", {"$length": n}. */
function agrees(actual, wanted, where) {
    if (typeof wanted === 'string' && wanted.startsWith('$')) {
        const [kind, ...rest] = wanted.slice(1).split(':');
        const value = rest.join(':');
        if (kind === 'any') {
            assert.notEqual(actual, undefined, where);
        } else if (kind === 'absent') {
            assert.equal(actual, undefined, where);
        } else if (kind === 'bool') {
            assert.equal(typeof actual, 'boolean', where);
        } else if (kind === 'near') {
            assert.ok(Math.abs(actual - Number(value)) <= 1e-4, `${where}: ${actual} is not near ${value}`);
        } else if (kind === 'match') {
            assert.match(String(actual), new RegExp(value), where);
        } else {
            assert.equal(typeof actual, kind, where);
        }
    } else if (Array.isArray(wanted)) {
        assert.ok(Array.isArray(actual), `${where}: no array: ${JSON.stringify(actual)}`);
        assert.equal(actual.length, wanted.length, `${where}: ${JSON.stringify(actual)}`);
        wanted.forEach((value, i) => agrees(actual[i], value, `${where}[${i}]`));
    } else if (wanted !== null && typeof wanted === 'object') {
        assert.ok(actual !== null && typeof actual === 'object', `${where}: no object: ${JSON.stringify(actual)}`);
        for (const [key, value] of Object.entries(wanted)) {
            if (key === '$length') {
                assert.equal(actual.length, value, `${where}: length`);
            } else {
                agrees(actual[key], value, `${where}.${key}`);
            }
        }
    } else {
        assert.deepEqual(actual, wanted, where);
    }
}

test('docs/reference/compatibility.md is what the tests make it', () => {
    const doc = readFileSync(new URL('../../docs/reference/compatibility.md', import.meta.url), 'utf8');
    assert.equal(doc, page(), 'run: node tests/e2e/compatibility.mjs > docs/reference/compatibility.md');
});

for (const file of readdirSync(here).filter((name) => name.endsWith('.json')).sort()) {
    const record = JSON.parse(readFileSync(new URL(file, here), 'utf8'));
    describe(record.client, { concurrency: false }, () => {
        let tenant;
        before(async () => {
            tenant = await hub.tenant(file.replace(/\.json$/, '').replaceAll('_', '-'));
        });
        for (const step of record.steps) {
            test(step.do, async () => {
                const answer = await fetch(`${tenant.url}${step.path}`, {
                    method: step.method,
                    headers: { 'api-key': tenant.key, 'content-type': 'application/json', ...step.headers },
                    body: step.body === undefined ? undefined : JSON.stringify(step.body),
                });
                const text = await answer.text();
                assert.equal(answer.status, step.status ?? 200, text.slice(0, 500));
                if (step.answer !== undefined) {
                    agrees(JSON.parse(text), step.answer, 'answer');
                }
            });
        }
    });
}
