// The attachments: files that are dropped on the page, or chosen, are uploaded, each with a bar that
// shows how far it is. The gallery shows what the server tells, and nothing else.

import { act, call, tell } from "./asking.js";

const PATH = "/files/";

const chooser = document.querySelector("#choose");
const dropZone = document.querySelector("#drop");
const uploads = document.querySelector("#uploads");
const gallery = document.querySelector("#gallery");
const uploadTemplate = document.querySelector("#upload-template");
const fileTemplate = document.querySelector("#file-template");

const UNITS = ["bytes", "KB", "MB", "GB"];

function sizeOf(bytes) {
  let unit = 0;
  while (bytes >= 1000 && unit < UNITS.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes.toLocaleString([], { maximumFractionDigits: unit ? 1 : 0 })} ${UNITS[unit]}`;
}

// What shows a file: a picture, a video, a sound, or nothing but its name.
function preview(file) {
  const kind = file.type.split("/")[0];
  if (kind === "image") {
    const picture = new Image();
    picture.loading = "lazy";
    picture.alt = "";
    picture.src = file.url;
    return picture;
  }
  if (kind === "video" || kind === "audio") {
    const player = document.createElement(kind);
    player.controls = true;
    player.preload = "metadata";
    player.src = file.url;
    return player;
  }
  return null;
}

function make(file) {
  const item = fileTemplate.content.firstElementChild.cloneNode(true);
  item.dataset.url = file.url;
  const shown = preview(file);
  if (shown) {
    item.prepend(shown);
  }
  const link = item.querySelector("a");
  link.href = file.url;
  link.textContent = file.name;
  item.querySelector(".size").textContent = sizeOf(file.size);
  item.querySelector(".delete").addEventListener("click", (event) => {
    act(event.currentTarget, async () => {
      await call("DELETE", file.url);
      tell("File deleted.");
    });
  });
  return item;
}

// All of them, the oldest first. What is on the page stays in place, a video that plays as well.
export function showAll(files) {
  const shown = new Map([...gallery.children].map((item) => [item.dataset.url, item]));
  for (const file of files) {
    if (!shown.delete(file.url)) {
      gallery.prepend(make(file));
    }
  }
  shown.forEach((item) => item.remove());
}

function reasonOf(request) {
  try {
    return JSON.parse(request.responseText).message;
  } catch {
    return request.status ? `The server answered ${request.status}.` : "The connection was lost.";
  }
}

// With XMLHttpRequest, as fetch does not tell how much of a body has been sent.
function upload(file) {
  const item = uploadTemplate.content.firstElementChild.cloneNode(true);
  const bar = item.querySelector("progress");
  item.querySelector(".name").textContent = file.name;
  bar.setAttribute("aria-label", `Upload of ${file.name}`);
  const request = new XMLHttpRequest();
  request.upload.onprogress = (event) => {
    bar.max = event.total;
    bar.value = event.loaded;
    item.querySelector(".done").textContent = `${sizeOf(event.loaded)} of ${sizeOf(event.total)}`;
  };
  request.onload = () => {
    const failed = request.status !== 201;
    tell(failed ? `${file.name}: ${reasonOf(request)}` : `${file.name} is uploaded.`, failed);
  };
  request.onerror = () => tell(`${file.name}: ${reasonOf(request)}`, true);
  request.onabort = () => tell(`${file.name} was not uploaded.`);
  request.onloadend = () => item.remove();
  item.querySelector(".cancel").addEventListener("click", () => request.abort());
  uploads.append(item);
  const form = new FormData();
  form.append("file", file);
  request.open("POST", PATH);
  request.setRequestHeader("Accept", "application/json");
  request.send(form);
}

chooser.addEventListener("change", () => {
  [...chooser.files].forEach(upload);
  chooser.value = "";
});

// The whole page takes what is dropped, so that nothing dropped beside the zone opens in its place.
let inside = 0;
const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");

function highlight(change) {
  inside = Math.max(0, inside + change);
  dropZone.classList.toggle("over", inside > 0);
}

addEventListener("dragenter", (event) => carriesFiles(event) && highlight(1));
addEventListener("dragleave", (event) => carriesFiles(event) && highlight(-1));
addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
addEventListener("drop", (event) => {
  if (carriesFiles(event)) {
    event.preventDefault();
    highlight(-inside);
    [...event.dataTransfer.files].forEach(upload);
  }
});
