// The samples that a person corrected, kept in the browser until they are taken home: a record in IndexedDB, and its file
// in the browser's file storage (OPFS). Where that is absent, as on plain http, the record holds the file itself.

import { ownName } from "./own_name.js";
import { Problem } from "./problem.js";
import { SampleFiles } from "./sample_files.js";

const DATABASE = "clip2edge samples";
const VERSION = 2; // 1: every record holds its file. A page of that version must not open records that hold none
const STORE = "samples";

export class Samples {
  #database;
  #files;

  constructor(database, files) {
    this.#database = database;
    this.#files = files;
    database.onversionchange = () => database.close();
  }

  static async open() {
    if (typeof indexedDB === "undefined" || indexedDB === null) throw new Problem("store_unknown");
    let request;
    try {
      request = indexedDB.open(ownName(DATABASE), VERSION);
    } catch (error) {
      throw storeProblem(error);
    }
    request.onupgradeneeded = ({ oldVersion }) => {
      if (oldVersion < 1) request.result.createObjectStore(STORE, { keyPath: "id", autoIncrement: true });
    };
    const samples = new Samples(await result(request), await SampleFiles.open());
    // A lost file only takes room: samples are shown without waiting, and after a failure the next start removes it.
    samples.#files?.removeLost(() => samples.#fileNames()).catch(() => {});
    return samples;
  }

  // Whether files lie in the file storage; else they lie in the database.
  get hasFiles() {
    return this.#files !== null;
  }

  // Keeps a sample. The browser is asked not to delete it when it needs room.
  async add({ blob, ...about }) {
    await navigator.storage?.persist?.().catch(() => false);
    const record = (content) => this.#run("readwrite", (store) => store.add({ ...about, ...content }));
    if (this.#files === null) return record({ blob });
    try {
      return await this.#files.keep(blob, (stored) => record({ stored }));
    } catch (error) {
      throw storeProblem(error);
    }
  }

  // Every sample with its file as `blob`, which is null where the file cannot be read: one such hides no other.
  async all() {
    const records = await this.#run("readonly", (store) => store.getAll());
    const samples = await Promise.all(records.map((record) => this.#withFile(record)));
    return samples.filter((sample) => sample !== null);
  }

  // Null where another tab has deleted the sample meanwhile.
  async #withFile({ stored, ...sample }) {
    if (stored === undefined) return sample;
    if (this.#files === null) throw new Problem("files_unreachable");
    try {
      const blob = await this.#files.read(stored);
      return blob === null ? null : { ...sample, blob };
    } catch {
      return { ...sample, blob: null };
    }
  }

  // Deletes the record first: a file without one is lost, and is removed.
  async remove(id) {
    let stored;
    await this.#run("readwrite", (store) => {
      const request = store.get(id);
      request.onsuccess = () => { stored = request.result?.stored; };
      return store.delete(id);
    });
    if (stored !== undefined) await this.#files?.delete(stored.name);
  }

  // Before a zip is made of the samples: their files stay until this tab ends, though samples are deleted.
  async holdFiles() {
    await this.#files?.holdAll();
  }

  async #fileNames() {
    const records = await this.#run("readonly", (store) => store.getAll());
    return records.flatMap(({ stored }) => (stored === undefined ? [] : [stored.name]));
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
    request.onblocked = () => {
      request.onsuccess = () => request.result.close(); // too late: an open database would block later versions
      reject(new Problem("store_blocked"));
    };
  });
}

function storeProblem(error) {
  if (error instanceof Problem) return error;
  if (error?.name === "QuotaExceededError") return new Problem("store_full");
  return new Problem("store_failed", { reason: error?.message || error?.name || "?" });
}
