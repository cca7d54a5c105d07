// The samples that a person corrected, kept in the browser's IndexedDB until they are taken home.
// OPFS would do in some browsers only: it is absent on plain http, and Safari long had no writing on the page's thread.

import { ownName } from "./own_name.js";
import { Problem } from "./problem.js";

const DATABASE = "clip2edge samples";
const STORE = "samples";

export class Samples {
  #database;

  constructor(database) {
    this.#database = database;
    database.onversionchange = () => database.close();
  }

  static async open() {
    if (typeof indexedDB === "undefined" || indexedDB === null) throw new Problem("store_unknown");
    let request;
    try {
      request = indexedDB.open(ownName(DATABASE), 1);
    } catch (error) {
      throw storeProblem(error);
    }
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
    return new Samples(await result(request));
  }

  // Keeps a sample. The browser is asked not to delete it when it needs room.
  async add(sample) {
    await navigator.storage?.persist?.().catch(() => false);
    return this.#run("readwrite", (store) => store.add(sample));
  }

  all() {
    return this.#run("readonly", (store) => store.getAll());
  }

  remove(id) {
    return this.#run("readwrite", (store) => store.delete(id));
  }

  // A change is kept when its transaction completes, which is later than its request succeeds.
  #run(mode, ask) {
    return new Promise((resolve, reject) => {
      try {
        const transaction = this.#database.transaction(STORE, mode);
        const request = ask(transaction.objectStore(STORE));
        transaction.oncomplete = () => resolve(request.result);
        transaction.onabort = () => reject(storeProblem(transaction.error ?? request.error));
      } catch (error) {
        reject(storeProblem(error));
      }
    });
  }
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(storeProblem(request.error));
    request.onblocked = () => reject(new Problem("store_failed", { reason: "blocked" }));
  });
}

function storeProblem(error) {
  if (error?.name === "QuotaExceededError") return new Problem("store_full");
  return new Problem("store_failed", { reason: error?.message || error?.name || "?" });
}
