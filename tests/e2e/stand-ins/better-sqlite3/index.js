// better-sqlite3 as far as mem0 calls it for its history: exec, prepare (run, all, get), pragma, transaction, close.
// SQLite itself is the real one, in WebAssembly.
const { Database: Wasm } = require('node-sqlite3-wasm');

class Statement {
    constructor(db, sql) {
        this.statement = db.prepare(sql);
    }
    run(...values) {
        return this.statement.run(values.flat());
    }
    all(...values) {
        return this.statement.all(values.flat());
    }
    get(...values) {
        return this.statement.get(values.flat()) ?? undefined;
    }
}

module.exports = class Database {
    constructor(file) {
        this.db = new Wasm(file);
    }
    exec(sql) {
        this.db.exec(sql);
        return this;
    }
    prepare(sql) {
        return new Statement(this.db, sql);
    }
    pragma(text) {
        return this.db.all(`PRAGMA ${text}`);
    }
    transaction(work) {
        return (...values) => {
            this.db.exec('BEGIN');
            try {
                const result = work(...values);
                this.db.exec('COMMIT');
                return result;
            } catch (error) {
                this.db.exec('ROLLBACK');
                throw error;
            }
        };
    }
    close() {
        this.db.close();
    }
};
