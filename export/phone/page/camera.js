// The camera: opened, and its light and zoom where the browser offers them.

import { Problem } from "./problem.js";

const BACK_CAMERA = { facingMode: { ideal: "environment" }, width: { ideal: 1280 }, height: { ideal: 720 } };
const PROBLEMS = {
  NotAllowedError: "camera_denied",
  NotFoundError: "camera_absent",
  OverconstrainedError: "camera_absent",
  NotReadableError: "camera_busy",
};

export class Camera {
  #stream;
  #track;

  constructor(stream) {
    this.#stream = stream;
    [this.#track] = stream.getVideoTracks();
  }

  // Opens the back camera and shows it in a video element.
  static async open(video, whenEnded) {
    if (!globalThis.isSecureContext) throw new Problem("camera_insecure");
    if (!navigator.mediaDevices?.getUserMedia) throw new Problem("camera_unknown");
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: BACK_CAMERA, audio: false });
    } catch (error) {
      throw new Problem(PROBLEMS[error.name] ?? "camera_failed", { reason: error.message || error.name });
    }
    const camera = new Camera(stream);
    camera.#track.addEventListener("ended", whenEnded);
    video.srcObject = stream;
    try {
      await video.play();
    } catch (error) {
      camera.#close(video); // nobody else could: a stream that is lost keeps the camera on
      throw new Problem("camera_failed", { reason: error.message || error.name });
    }
    return camera;
  }

  #close(video) {
    for (const track of this.#stream.getTracks()) track.stop();
    video.srcObject = null;
  }

  get stream() {
    return this.#stream;
  }

  get hasTorch() {
    return this.#track.getCapabilities?.().torch === true;
  }

  // The smallest and largest zoom and its step, or null.
  get zoom() {
    const range = this.#track.getCapabilities?.().zoom;
    return range && range.max > range.min ? range : null;
  }

  // Its present zoom, or undefined.
  get zoomNow() {
    return this.#track.getSettings?.().zoom;
  }

  async set(name, value) {
    try {
      await this.#track.applyConstraints({ advanced: [{ [name]: value }] });
    } catch (error) {
      throw new Problem("camera_failed", { reason: error.message || error.name });
    }
  }
}
