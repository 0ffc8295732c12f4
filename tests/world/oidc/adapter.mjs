// Keeps everything in memory, for as long as the process lives. The provider's own such adapter is for quick starts
// only, says so on stderr, and forgets after 1,000 entries.

export class MemoryAdapter {
  static #stored = new Map();

  constructor(model) {
    this.model = model;
  }

  #key(id) {
    return `${this.model}:${id}`;
  }

  async upsert(id, payload, expiresIn) {
    const expiresAt = expiresIn === undefined ? Infinity : Date.now() + expiresIn * 1000;
    MemoryAdapter.#stored.set(this.#key(id), { payload, expiresAt });
  }

  async find(id) {
    const entry = MemoryAdapter.#stored.get(this.#key(id));
    return entry && entry.expiresAt > Date.now() ? entry.payload : undefined;
  }

  async findByUid(uid) {
    return this.#findBy('uid', uid);
  }

  async findByUserCode(userCode) {
    return this.#findBy('userCode', userCode);
  }

  async consume(id) {
    MemoryAdapter.#stored.get(this.#key(id)).payload.consumed = Math.floor(Date.now() / 1000);
  }

  async destroy(id) {
    MemoryAdapter.#stored.delete(this.#key(id));
  }

  async revokeByGrantId(grantId) {
    for (const [key, { payload }] of MemoryAdapter.#stored) {
      if (payload.grantId === grantId) MemoryAdapter.#stored.delete(key);
    }
  }

  #findBy(name, value) {
    for (const [key, { payload }] of MemoryAdapter.#stored) {
      if (key.startsWith(`${this.model}:`) && payload[name] === value) return payload;
    }
    return undefined;
  }
}
