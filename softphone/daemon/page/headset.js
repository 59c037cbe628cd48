// The page of the browser headset: it shows the daemon's calls, and its microphone and loudspeaker are theirs.

const PATIENCE = 5000; // milliseconds for WebRTC to find a way, before sound goes over the WebSocket
const $ = (id) => document.getElementById(id);
const token = location.hash.slice(1);
const framesOnly = new URLSearchParams(location.search).get("way") === "frames";

let socket = null;
let serial = 0;
const waiting = new Map();
let sound = null; // what is connected: { stop(), way }
let stream = null;
let context = null;

// -- the daemon

function connect() {
  socket = new WebSocket(`ws://${location.host}/socket`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    socket.send(JSON.stringify({ token }));
    status("ready", "");
  };
  socket.onmessage = (event) => {
    if (typeof event.data !== "string") {
      sound?.take?.(event.data);
      return;
    }
    const message = JSON.parse(event.data);
    if (message.event === "calls") show(message.calls);
    else if (message.event === "taken") release("Another window is the headset now.");
    else if (message.event === "lost") lost();
    else if (waiting.has(message.id)) {
      const { resolve, reject } = waiting.get(message.id);
      waiting.delete(message.id);
      message.ok ? resolve(message.result) : reject(new Error(message.error));
    }
  };
  socket.onclose = (event) => {
    release("");
    show([]);
    for (const { reject } of waiting.values()) reject(new Error("the connection to the phone is lost"));
    waiting.clear();
    if (event.code === 1008) {
      status("not allowed", "off");
      trouble("This address is not complete, or of an older daemon. Take the one that `softphone headset` tells now.");
      return;
    }
    status("no daemon", "off");
    setTimeout(connect, 2000);
  };
}

function request(op, values = {}) {
  return new Promise((resolve, reject) => {
    if (socket?.readyState !== WebSocket.OPEN) {
      reject(new Error("the phone cannot be reached"));
      return;
    }
    serial += 1;
    waiting.set(serial, { resolve, reject });
    socket.send(JSON.stringify({ id: serial, op, ...values }));
  });
}

// -- calls

const WORDS = { calling: "Calling", ringing: "It rings there", confirmed: "In a call", ended: "Over" };

function show(calls) {
  const place = $("calls");
  place.replaceChildren(...calls.map(card));
  const ringing = calls.find((call) => call.incoming && call.state !== "confirmed");
  document.title = ringing ? `${name(ringing)} calls` : "Headset - roamphone";
}

function name(call) {
  return call.remote_name || call.remote.replace(/^sips?:/, "");
}

function card(call) {
  const made = $("call").content.cloneNode(true).firstElementChild;
  const talking = call.state === "confirmed";
  const ringing = call.incoming && !talking;
  made.classList.toggle("ringing", ringing);
  made.querySelector(".what").textContent = ringing
    ? "Somebody calls"
    : call.on_hold ? "On hold" : call.held ? "They hold you" : WORDS[call.state] ?? call.state;
  made.querySelector(".who").textContent = name(call);
  const details = [call.remote_name ? call.remote.replace(/^sips?:/, "") : "", call.account];
  if (talking) details.push(call.codec, call.suite ? "encrypted" : "not encrypted");
  made.querySelector(".more").textContent = details.filter(Boolean).join(" · ");
  const visible = {
    answer: ringing, reject: ringing, hold: talking && !call.on_hold, resume: talking && call.on_hold,
    mute: talking, hangup: !ringing,
  };
  for (const [kind, on] of Object.entries(visible)) {
    const button = made.querySelector(`.${kind}`);
    button.hidden = !on;
    button.onclick = () => act(kind, call);
  }
  made.querySelector(".mute").setAttribute("aria-pressed", String(call.muted));
  return made;
}

async function act(op, call) {
  const values = { call: call.call, account: call.account };
  if (op === "mute") values.on = !call.muted;
  try {
    if (op === "answer" && !sound) await use();
    await request(op, values);
    trouble("");
  } catch (error) {
    trouble(error.message);
  }
}

$("dial").onsubmit = async (event) => {
  event.preventDefault();
  const target = $("target").value.trim();
  if (!target) return;
  try {
    if (!sound) await use();
    await request("dial", { target });
    $("target").value = "";
    trouble("");
  } catch (error) {
    trouble(error.message);
  }
};

// -- sound

const REASONS = {
  NotAllowedError: "The browser does not let this page use the microphone. Allow it with the symbol beside the address, then try again.",
  NotFoundError: "The browser finds no microphone. Plug one in, then try again.",
  NotReadableError: "The microphone is in use by another program, or the system does not give it away.",
  OverconstrainedError: "The chosen microphone is not there any more. Choose another one.",
  SecurityError: "The browser forbids microphones here.",
};

async function microphone() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("Browsers give the microphone only to pages of this machine: open it as http://localhost, by an SSH tunnel (ssh -L) if the phone runs elsewhere.");
  }
  const id = $("microphone").value;
  const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: id ? { ...wanted, deviceId: { exact: id } } : wanted });
  } catch (error) {
    throw new Error(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
  }
}

async function use() {
  $("connect").disabled = true;
  try {
    release("");
    stream = await microphone();
    context ??= new AudioContext();
    await context.resume();
    meter("spoken", context.createMediaStreamSource(stream));
    if (framesOnly) await byFrames();
    else {
      try {
        await byWebRtc();
      } catch (error) {
        console.info("WebRTC:", error.message);
        await byFrames();
      }
    }
    await list();
    $("way").textContent = sound.way;
    $("connect").textContent = "Do not use this browser any more";
    status("headset", "on");
    trouble("");
  } catch (error) {
    release("");
    trouble(error.message);
    throw error;
  } finally {
    $("connect").disabled = false;
  }
}

async function byWebRtc() {
  const peer = new RTCPeerConnection({ iceServers: [] });
  sound = { way: "Sound goes by WebRTC.", stop: () => peer.close() };
  peer.addTrack(stream.getAudioTracks()[0], stream);
  peer.ontrack = (event) => {
    const heard = new MediaStream([event.track]);
    $("audio").srcObject = heard;
    meter("heard", context.createMediaStreamSource(heard));
  };
  const connected = new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("no way was found in time")), PATIENCE);
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "connected") resolve();
      if (peer.connectionState === "failed") reject(new Error("no way was found"));
    };
  });
  try {
    await peer.setLocalDescription(await peer.createOffer());
    if (peer.iceGatheringState !== "complete") {
      await new Promise((resolve) => {
        peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && resolve();
        setTimeout(resolve, 1000);
      });
    }
    const { sdp } = await request("headset-webrtc", { sdp: peer.localDescription.sdp });
    await peer.setRemoteDescription({ type: "answer", sdp });
    await connected;
  } catch (error) {
    connected.catch(() => {});
    peer.close();
    sound = null;
    throw error;
  }
}

async function byFrames() {
  await context.audioWorklet.addModule("worklet.js");
  const node = new AudioWorkletNode(context, "phone", { numberOfInputs: 1, numberOfOutputs: 1, outputChannelCount: [1] });
  const source = context.createMediaStreamSource(stream);
  await request("headset-frames", { rate: context.sampleRate });
  node.port.onmessage = (event) => socket.readyState === WebSocket.OPEN && socket.send(event.data);
  source.connect(node);
  const out = context.createMediaStreamDestination();
  node.connect(out);
  $("audio").srcObject = out.stream;
  meter("heard", node);
  sound = {
    way: "Sound goes over the connection of this page (WebRTC found no way): it may come later than usual.",
    take: (data) => node.port.postMessage(data, [data]),
    stop: () => { node.port.onmessage = null; source.disconnect(); node.disconnect(); },
  };
}

function release(why) {
  sound?.stop();
  sound = null;
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  $("audio").srcObject = null;
  for (const bar of Object.values(bars)) bar.source = null;
  $("connect").textContent = "Use this browser as the headset";
  $("way").textContent = "";
  if (socket?.readyState === WebSocket.OPEN) status("ready", "");
  if (why) trouble(why);
}

async function lost() {
  if (!sound || $("connect").disabled) return; // it is being tried right now
  try {
    await use();
  } catch {
    // `use` has told it
  }
}

$("connect").onclick = async () => {
  if (sound) {
    release("");
    await request("headset-end").catch(() => {});
    return;
  }
  await use().catch(() => {});
};

// -- devices and meters

async function list() {
  const found = await navigator.mediaDevices.enumerateDevices();
  fill($("microphone"), found.filter((one) => one.kind === "audioinput"), stream?.getAudioTracks()[0]?.getSettings().deviceId);
  fill($("speaker"), found.filter((one) => one.kind === "audiooutput"), $("audio").sinkId);
  $("devices").hidden = false;
  $("speaker-label").hidden = !("setSinkId" in $("audio"));
}

function fill(select, devices, chosen) {
  select.replaceChildren(...devices.map((one) => new Option(one.label || "not named", one.deviceId, false, one.deviceId === chosen)));
  select.disabled = !devices.length;
}

$("microphone").onchange = () => sound && use().catch(() => {});
$("speaker").onchange = () => $("audio").setSinkId($("speaker").value).catch((error) => trouble(error.message));
navigator.mediaDevices?.addEventListener("devicechange", () => stream && list());

const bars = {};

function meter(id, source) {
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  source.connect(analyser);
  bars[id] = { source, analyser, samples: new Float32Array(analyser.fftSize) };
}

export const levels = { spoken: 0, heard: 0 };

function draw() {
  for (const id of ["spoken", "heard"]) {
    const bar = bars[id];
    let level = 0;
    if (bar?.source) {
      bar.analyser.getFloatTimeDomainData(bar.samples);
      level = Math.sqrt(bar.samples.reduce((sum, one) => sum + one * one, 0) / bar.samples.length);
    }
    levels[id] = level;
    const decibels = 20 * Math.log10(Math.max(level, 1e-5)); // -60 dB is the left end
    $(id).firstElementChild.style.width = `${Math.max(0, Math.min(100, (decibels + 60) * 1.8))}%`;
  }
  requestAnimationFrame(draw);
}

function status(text, kind) {
  $("status").textContent = text;
  $("status").className = `pill ${kind}`;
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

for (const id of ["spoken", "heard"]) $(id).append(document.createElement("i"));
draw();
connect();
