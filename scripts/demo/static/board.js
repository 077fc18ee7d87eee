// The page of the note board. It shows what the WebSocket tells it, and nothing else: first the whole
// board, then each change in its order; after a break, the whole board again. Requests only ask for
// changes. Whatever people wrote goes into the page as text, never as markup.

import { act, call, tell } from "./asking.js";
import * as attachments from "./attachments.js";

const FIRST_DELAY = 500; // milliseconds until it connects again; twice as long after each failure
const LONGEST_DELAY = 15000;

const list = document.querySelector("#notes");
const empty = document.querySelector("#empty");
const connection = document.querySelector("#connection");
const here = document.querySelector("#here");
const people = document.querySelector("#people");
const nameField = document.querySelector("#name");
const composer = document.querySelector("#new-note");
const template = document.querySelector("#note-template");

let name = localStorage.getItem("name") ?? "";
let socket;

function timeOf(note) {
  const written = new Date(note.changed * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  return note.changed > note.created ? `${written} (edited)` : written;
}

function itemOf(id) {
  return document.getElementById(`note-${id}`);
}

function show(item, note) {
  item.className = `note ${note.color}`;
  item.dataset.color = note.color;
  item.querySelector(".text").textContent = note.text;
  const time = item.querySelector("time");
  time.textContent = timeOf(note);
  time.dateTime = new Date(note.changed * 1000).toISOString();
}

function edit(item, on) {
  item.querySelector(".text").hidden = on;
  item.querySelector(".editor").hidden = !on;
  item.querySelector("footer").hidden = on;
  if (on) {
    const field = item.querySelector("textarea");
    field.value = item.querySelector(".text").textContent;
    field.focus();
  } else {
    item.querySelector(".edit").focus();
  }
}

// Takes a note away, but not out of the hands of somebody who is writing in it.
function drop(item) {
  if (item.querySelector(".editor").hidden) {
    item.remove();
  } else {
    item.dataset.gone = "";
    tell("Somebody deleted the note that you are editing.", true);
  }
}

function make(id) {
  const item = template.content.firstElementChild.cloneNode(true);
  const path = `/api/notes/${id}`;
  item.id = `note-${id}`;
  item.querySelector(".edit").addEventListener("click", () => edit(item, true));
  item.querySelector(".cancel").addEventListener("click", () => {
    edit(item, false);
    if ("gone" in item.dataset) {
      item.remove();
      showIfEmpty();
    }
  });
  item.querySelector(".editor").addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter, async () => {
      const text = event.target.elements.text.value;
      await call("PUT", path, { text, color: item.dataset.color });
      edit(item, false);
      tell("Note saved.");
    });
  });
  item.querySelector(".delete").addEventListener("click", (event) => {
    act(event.currentTarget, async () => {
      await call("DELETE", path);
      tell("Note deleted.");
      composer.elements.text.focus();
    });
  });
  return item;
}

function showIfEmpty() {
  empty.hidden = list.children.length > 0;
}

// What the server tells, by the name under which it does.
const hear = {
  // The whole board, the oldest note first. What is on the page stays in place.
  notes(notes) {
    const ids = new Set(notes.map((note) => `note-${note.id}`));
    [...list.children].filter((item) => !ids.has(item.id)).forEach(drop);
    notes.forEach(hear.note);
  },
  // A note that is new, or has changed.
  note(note) {
    if (!itemOf(note.id)) {
      list.prepend(make(note.id));
    }
    show(itemOf(note.id), note);
  },
  // The number of a note that was deleted.
  gone(id) {
    drop(itemOf(id));
  },
  // All attachments, the oldest first.
  files: attachments.showAll,
  // Everybody who is here.
  people(names) {
    people.replaceChildren(
      ...names.map((person) => {
        const item = document.createElement("li");
        item.textContent = person;
        item.classList.toggle("you", person === name);
        return item;
      }),
    );
  },
  // How this visitor is called.
  you(told) {
    name = nameField.value = told;
  },
};

function showConnected(connected) {
  connection.textContent = connected ? "Live" : "Offline, reconnecting…";
  connection.classList.toggle("failed", !connected);
  here.hidden = !connected;
  nameField.disabled = !connected;
}

function connect(delay = FIRST_DELAY) {
  const url = new URL("/api/live", location);
  url.protocol = url.protocol.replace("http", "ws");
  url.searchParams.set("name", name);
  socket = new WebSocket(url);
  socket.onmessage = (event) => {
    delay = FIRST_DELAY;
    showConnected(true);
    for (const [what, told] of Object.entries(JSON.parse(event.data))) {
      hear[what](told);
    }
    showIfEmpty();
  };
  // However it ended, or if it could not be opened. Not all pages come back at the same moment.
  socket.onclose = () => {
    showConnected(false);
    setTimeout(connect, delay * (0.5 + Math.random()), Math.min(2 * delay, LONGEST_DELAY));
  };
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter, async () => {
    const { text, color } = composer.elements;
    await call("POST", "/api/notes", { text: text.value, color: color.value });
    text.value = "";
    text.focus();
    tell("Note added.");
  });
});

nameField.addEventListener("change", () => {
  localStorage.setItem("name", nameField.value);
  socket.send(nameField.value);
});

// Browsers may keep a page that was left, frozen, but with its WebSocket open.
addEventListener("pagehide", () => socket.close());

connect();
