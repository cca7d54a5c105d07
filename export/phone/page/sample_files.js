// The files of samples, in the browser's file storage (OPFS), in a folder of this page's own.

import { ownName } from "./own_name.js";

const FOLDER = "clip2edge samples";
const MOST_ATTEMPTS = 25; // to remove a file
const MILLISECONDS_BETWEEN = 20;
const SOLE = { mode: "exclusive", ifAvailable: true }; // a lock while no other tab keeps a sample or saves a zip

export class SampleFiles {
  #folder;
  #held = null; // settles when this tab holds the files
  #remaining = new Set(); // names of files whose samples are deleted

  constructor(folder) {
    this.#folder = folder;
  }

  // Null where this browser gives no such storage to this page, or none that can be written here (Safari before 26).
  static async open() {
    if (typeof FileSystemFileHandle === "undefined" || !("createWritable" in FileSystemFileHandle.prototype)) return null;
    if (!navigator.storage?.getDirectory || !navigator.locks) return null;
    try {
      const root = await navigator.storage.getDirectory();
      // Names of folders have no slash.
      return new SampleFiles(await root.getDirectoryHandle(encodeURIComponent(ownName(FOLDER)), { create: true }));
    } catch {
      return null;
    }
  }

  // Writes a file, and then what `record` keeps of it. Both are there afterwards, or neither.
  async keep(blob, record) {
    try {
      return await this.#keepOnce(blob, record);
    } catch (error) {
      const isFull = error?.name === "QuotaExceededError" || error?.key === "store_full";
      if (!isFull || this.#remaining.size === 0) throw error;
      for (const name of this.#remaining) await this.#remove(name);
      this.#remaining.clear();
      return this.#keepOnce(blob, record);
    }
  }

  // The lock says to other tabs that a file without a record is not a lost one.
  #keepOnce(blob, record) {
    return navigator.locks.request(ownName(FOLDER), { mode: "shared" }, async () => {
      const name = crypto.randomUUID();
      try {
        await this.#write(name, blob);
        return await record({ name, type: blob.type, size: blob.size });
      } catch (error) {
        await this.#remove(name);
        throw error;
      }
    });
  }

  async #write(name, blob) {
    const handle = await this.#folder.getFileHandle(name, { create: true });
    const writable = await handle.createWritable();
    try {
      await writable.write(blob);
      await writable.close(); // only now the file has its content
    } catch (error) {
      await writable.abort().catch(() => {});
      throw error;
    }
  }

  // The content of a file; null where the file is gone, since another tab has deleted the sample meanwhile. A file that is
  // shorter than it was written, as after a power cut, is an error. Records of earlier pages have no `size`.
  async read({ name, type, size }) {
    let file;
    try {
      file = await (await this.#folder.getFileHandle(name)).getFile();
    } catch (error) {
      if (error?.name === "NotFoundError") return null;
      throw error;
    }
    if (size !== undefined && file.size !== size) throw new DOMException(`${file.size} of ${size} bytes`, "NotReadableError");
    return file.slice(0, file.size, type); // the storage knows no types
  }

  // Keeps the files of deleted samples until this tab ends: a zip refers to them, and the browser may still be saving it.
  holdAll() {
    this.#held ??= new Promise((resolve, reject) => {
      const untilTheEnd = () => {
        resolve();
        return new Promise(() => {});
      };
      navigator.locks.request(ownName(FOLDER), { mode: "shared" }, untilTheEnd).catch(reject);
    });
    return this.#held;
  }

  // Deletes the file of a deleted sample. Where a tab holds the files, only when room is needed or the page is opened again.
  async delete(name) {
    await navigator.locks.request(ownName(FOLDER), SOLE, async (lock) => {
      if (lock === null) this.#remaining.add(name);
      else await this.#remove(name);
    });
  }

  // Chromium may hold a file for some milliseconds after its writing was broken off. A file that cannot be removed now is
  // removed when the page is opened again.
  async #remove(name) {
    for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt += 1) {
      try {
        await this.#folder.removeEntry(name);
        return;
      } catch (error) {
        if (error?.name !== "NoModificationAllowedError") return;
        await new Promise((resolve) => setTimeout(resolve, MILLISECONDS_BETWEEN));
      }
    }
  }

  // Removes the files that no record names: a tab ended between a file and its record. `recorded` gives the names of records.
  // While another tab keeps a sample, or has saved a zip, nothing is removed.
  async removeLost(recorded) {
    await navigator.locks.request(ownName(FOLDER), SOLE, async (lock) => {
      if (lock === null) return;
      const known = new Set(await recorded());
      const lost = [];
      for await (const name of this.#folder.keys()) if (!known.has(name)) lost.push(name);
      for (const name of lost) await this.#remove(name);
    });
  }
}
