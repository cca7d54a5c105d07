// Records the camera's stream into one file, for clips that are kept.

import { Problem } from "./problem.js";

const TYPES = ["video/mp4", "video/webm;codecs=vp9", "video/webm"]; // `pipe add` reads both; the first one that is offered

export class Recorder {
  #recorder;
  #parts = [];

  constructor(stream) {
    if (typeof MediaRecorder === "undefined") throw new Problem("recorder_unknown");
    const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    this.#recorder = new MediaRecorder(stream, mimeType === undefined ? {} : { mimeType });
    this.#recorder.ondataavailable = ({ data }) => this.#parts.push(data);
    this.#recorder.start(1000);
  }

  // Ends the clip and gives its file.
  stop() {
    const { mimeType } = this.#recorder;
    return new Promise((resolve) => {
      this.#recorder.onstop = () => resolve(new Blob(this.#parts, { type: mimeType.split(";")[0] }));
      if (this.#recorder.state === "inactive") this.#recorder.onstop();
      else this.#recorder.stop();
    });
  }
}
