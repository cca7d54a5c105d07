// The dialogs of samples: what it really is, and the list of what is kept.

import { $ } from "./element.js";
import { classOf } from "./labels.js";
import { fillTexts, text } from "./strings.js";
import { zipOfSamples } from "./take_home.js";

// Asks for the right class. Gives null where the person cancels. `others`: classes of samples that the model does not know.
export function askForClass(classes, others) {
  const dialog = $("correct");
  const field = $("new-class");
  const typed = () => classOf(field.value, [...classes, ...others]);
  field.value = "";
  field.oninput = () => {
    $("keep-new").disabled = typed() === null;
    $("class-line").textContent = typed() === null && field.value.trim() !== "" ? text("class_refused") : "";
  };
  field.oninput();
  const buttons = classes.map((name, number) => {
    const button = document.createElement("button");
    button.type = "button"; // not one that the Enter key presses while a name is typed
    button.textContent = name;
    button.dir = "auto";
    button.onclick = () => dialog.close(String(number));
    return button;
  });
  $("classes").replaceChildren(...buttons);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const value = dialog.returnValue;
      if (value === "new") resolve(typed());
      else resolve(value === "" ? null : classes[Number(value)]);
    };
  });
}

export class SamplesView {
  #samples;
  #tell;
  #addresses = [];
  #listed = []; // the ids of what the person sees: another tab may keep more meanwhile

  // `tell` shows a problem in the page's line.
  constructor(samples, tell) {
    this.#samples = samples;
    this.#tell = tell;
    $("show-samples").onclick = () => this.#guard(() => this.#open());
    $("take-home").onclick = () => this.#guard(() => this.#save());
    $("delete-all").onclick = () => this.#guard(() => this.#deleteAll());
    $("samples").onclose = () => this.#forget();
  }

  async count() {
    const all = await this.#samples.all();
    $("show-samples").textContent = text("samples", { count: all.length });
    return all;
  }

  async #open() {
    await this.#list();
    $("samples").showModal();
  }

  async #list() {
    const all = await this.count();
    const readable = all.filter(isReadable);
    const megabytes = (readable.reduce((sum, { blob }) => sum + blob.size, 0) / 1e6).toFixed(1);
    const kept = all.length ? text("samples_count", { count: readable.length, megabytes }) : text("samples_none");
    const lost = readable.length < all.length ? text("samples_unreadable", { count: all.length - readable.length }) : "";
    $("samples-line").textContent = `${lost} ${kept}`.trim();
    $("take-home").disabled = readable.length === 0;
    $("delete-all").disabled = all.length === 0;
    $("delete-all").textContent = text("delete_all");
    delete $("delete-all").dataset.sure;
    this.#forget();
    this.#listed = all.map(({ id }) => id);
    $("samples-list").replaceChildren(...all.reverse().map((sample) => this.#item(sample)));
  }

  #item({ id, kind, label, recorded_at: recordedAt, bundle_id: bundle, answer, blob }) {
    const item = document.createElement("li");
    const words = document.createElement("p");
    const name = document.createElement("strong");
    name.textContent = label;
    name.dir = "auto";
    const about = document.createElement("span");
    const answered = answer.label ?? text("none");
    about.textContent = `${text("sample_answer", { answer: answered })} · ${recordedAt.slice(0, 16).replace("T", " ")}`;
    const model = document.createElement("span");
    model.textContent = text("sample_model", { bundle: bundle.slice(0, 8) }); // the zip has all digits
    words.append(name, about, model);
    if (blob === null) words.append(text("sample_unreadable"));
    const remove = document.createElement("button");
    remove.className = "second";
    remove.dataset.text = "delete";
    remove.onclick = () => this.#guard(async () => {
      await this.#samples.remove(id);
      await this.#list();
    });
    const picture = blob === null ? document.createElement("span") : this.#picture(kind, blob); // or an empty place
    item.append(picture, words, remove);
    fillTexts(item);
    return item;
  }

  #picture(kind, blob) {
    const picture = document.createElement(kind === "clip" ? "video" : "img");
    picture.src = URL.createObjectURL(blob);
    picture.muted = true;
    picture.playsInline = true;
    this.#addresses.push(picture.src);
    return picture;
  }

  async #save() {
    const link = document.createElement("a");
    await this.#samples.holdFiles();
    link.href = URL.createObjectURL(await zipOfSamples((await this.#samples.all()).filter(isReadable)));
    link.download = "samples.zip";
    link.click();
    this.#addresses.push(link.href);
  }

  async #deleteAll() {
    const button = $("delete-all");
    if (button.dataset.sure === undefined) {
      button.dataset.sure = "asked";
      button.textContent = text("delete_sure");
      return;
    }
    for (const id of this.#listed) await this.#samples.remove(id);
    await this.#list();
  }

  async #guard(action) {
    try {
      await action();
    } catch (error) {
      $("samples").close();
      this.#tell(error);
    }
  }

  #forget() {
    for (const address of this.#addresses.splice(0)) URL.revokeObjectURL(address);
  }
}

const isReadable = ({ blob }) => blob !== null;
