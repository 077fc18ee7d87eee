// The page of the note board. Whatever people wrote goes into the page as text, never as markup.

const list = document.querySelector("#notes");
const empty = document.querySelector("#empty");
const status = document.querySelector("#status");
const composer = document.querySelector("#new-note");
const template = document.querySelector("#note-template");

function tell(text, failed = false) {
  status.textContent = text;
  status.classList.toggle("failed", failed);
}

async function call(method, path, content) {
  const options = { method, headers: { Accept: "application/json" } };
  if (content !== undefined) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(content);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) {
    throw new Error(answer.message || `The server answered ${response.status}.`);
  }
  return answer;
}

// Runs what a button does: it is disabled meanwhile, and a failure is told to the user.
async function act(button, action) {
  button.disabled = true;
  try {
    await action();
  } catch (error) {
    tell(error.message, true);
  } finally {
    button.disabled = false;
  }
}

function timeOf(note) {
  const written = new Date(note.changed * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  return note.changed > note.created ? `${written} (edited)` : written;
}

function countNotes() {
  empty.hidden = list.children.length > 0;
}

function show(item, note) {
  item.className = `note ${note.color}`;
  item.dataset.id = note.id;
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

function make(note) {
  const item = template.content.firstElementChild.cloneNode(true);
  const path = `/api/notes/${note.id}`;
  let color = note.color;
  show(item, note);
  item.querySelector(".edit").addEventListener("click", () => edit(item, true));
  item.querySelector(".cancel").addEventListener("click", () => edit(item, false));
  item.querySelector(".editor").addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter, async () => {
      const text = event.target.elements.text.value;
      const changed = await call("PUT", path, { text, color });
      color = changed.color;
      show(item, changed);
      edit(item, false);
      tell("Note saved.");
    });
  });
  item.querySelector(".delete").addEventListener("click", (event) => {
    act(event.currentTarget, async () => {
      await call("DELETE", path);
      item.remove();
      countNotes();
      tell("Note deleted.");
      composer.elements.text.focus();
    });
  });
  return item;
}

async function refresh() {
  const { notes } = await call("GET", "/api/notes");
  list.replaceChildren(...notes.map(make));
  countNotes();
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter, async () => {
    const { text, color } = composer.elements;
    const note = await call("POST", "/api/notes", { text: text.value, color: color.value });
    list.prepend(make(note));
    countNotes();
    text.value = "";
    text.focus();
    tell("Note added.");
  });
});

document.querySelector("#refresh").addEventListener("click", (event) => {
  act(event.currentTarget, async () => {
    await refresh();
    tell(list.children.length === 1 ? "1 note." : `${list.children.length} notes.`);
  });
});

refresh().catch((error) => tell(error.message, true));
