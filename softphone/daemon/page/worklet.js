// Where WebRTC does not get through: the microphone as frames of 20 ms, and what is heard out of a short queue.

const AHEAD = 0.06; // seconds that are gathered before the first is played
const MOST = 0.2; // seconds that may wait; of more the oldest goes

class PhoneProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.frame = new Int16Array(Math.round(sampleRate * 0.02));
    this.filled = 0;
    this.queue = [];
    this.waiting = 0;
    this.position = 0;
    this.flows = false;
    this.port.onmessage = (event) => this.take(new Int16Array(event.data));
  }

  take(samples) {
    this.queue.push(samples);
    this.waiting += samples.length;
    while (this.waiting > MOST * sampleRate && this.queue.length > 1) {
      this.waiting -= this.queue.shift().length - this.position;
      this.position = 0;
    }
    if (this.waiting >= AHEAD * sampleRate) this.flows = true;
  }

  process(inputs, outputs) {
    const spoken = inputs[0][0];
    for (let n = 0; spoken && n < spoken.length; n++) {
      this.frame[this.filled++] = Math.max(-1, Math.min(1, spoken[n])) * 32767;
      if (this.filled === this.frame.length) {
        this.port.postMessage(this.frame.slice().buffer);
        this.filled = 0;
      }
    }
    const heard = outputs[0][0];
    for (let n = 0; n < heard.length; n++) {
      if (!this.flows || !this.queue.length) {
        this.flows = false;
        heard[n] = 0;
        continue;
      }
      heard[n] = this.queue[0][this.position++] / 32768;
      this.waiting--;
      if (this.position === this.queue[0].length) {
        this.queue.shift();
        this.position = 0;
      }
    }
    return true;
  }
}

registerProcessor("phone", PhoneProcessor);
