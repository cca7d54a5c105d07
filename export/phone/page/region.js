// The region that the graph sees: set once with a finger, drawn over the picture, and remembered.

import { ownName } from "./own_name.js";
import { WHOLE } from "./pixels.js";

const KEY = "clip2edge region";
const SMALLEST = 0.05; // of the picture's side; a tap sets no region

export class Region {
  #frame;
  #drawn;
  #isSetting = false;

  constructor(frame, drawn) {
    this.#frame = frame;
    this.#drawn = drawn;
    this.part = remembered();
    this.#draw();
    frame.addEventListener("pointerdown", (event) => this.#begin(event));
  }

  get isWhole() {
    return this.part === WHOLE;
  }

  get isSetting() {
    return this.#isSetting;
  }

  // Lets the next stroke of a finger or mouse set the region.
  set() {
    this.#isSetting = true;
    this.#frame.classList.add("setting");
  }

  clear() {
    this.#use(WHOLE);
  }

  #begin(down) {
    if (!this.#isSetting) return;
    down.preventDefault();
    const from = this.#placeOf(down);
    let part = WHOLE;
    const move = (event) => {
      const to = this.#placeOf(event);
      part = {
        left: Math.min(from.x, to.x),
        top: Math.min(from.y, to.y),
        width: Math.abs(from.x - to.x),
        height: Math.abs(from.y - to.y),
      };
      this.#place(part);
    };
    const end = () => {
      this.#frame.removeEventListener("pointermove", move);
      this.#use(part.width < SMALLEST || part.height < SMALLEST ? WHOLE : part);
    };
    this.#frame.setPointerCapture(down.pointerId);
    this.#frame.addEventListener("pointermove", move);
    for (const name of ["pointerup", "pointercancel"]) this.#frame.addEventListener(name, end, { once: true });
  }

  #placeOf(event) {
    const box = this.#frame.getBoundingClientRect();
    const inside = (share) => Math.min(Math.max(share, 0), 1);
    return { x: inside((event.clientX - box.left) / box.width), y: inside((event.clientY - box.top) / box.height) };
  }

  #use(part) {
    this.part = part;
    this.#isSetting = false;
    this.#frame.classList.remove("setting");
    this.#draw();
    remember(part);
    this.#frame.dispatchEvent(new Event("region"));
  }

  #draw() {
    this.#drawn.hidden = this.isWhole;
    this.#place(this.part);
  }

  #place({ left, top, width, height }) {
    this.#drawn.hidden = width === 1 && height === 1;
    const sides = { left, top, width, height };
    for (const [side, share] of Object.entries(sides)) this.#drawn.style[side] = `${100 * share}%`;
  }
}

function remembered() {
  try {
    const part = JSON.parse(localStorage.getItem(ownName(KEY)));
    const sides = [part.left, part.top, part.width, part.height];
    return sides.every((share) => share >= 0 && share <= 1) ? part : WHOLE;
  } catch {
    return WHOLE;
  }
}

function remember(part) {
  try {
    if (part === WHOLE) localStorage.removeItem(ownName(KEY));
    else localStorage.setItem(ownName(KEY), JSON.stringify(part));
  } catch {
    // A browser that keeps nothing still uses the region until the page is closed.
  }
}
