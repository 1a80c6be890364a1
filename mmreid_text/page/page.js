// Buttons of cards, words of explanations and the picture chooser; the same text serves every component of the page.
const EVENTS = ["example", "turn", "like", "why", "drop", "upload"];
const MAX_UPLOAD = __MAX_UPLOAD__;

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || button.disabled) return;
  if (EVENTS.includes(button.dataset.event)) {
    trigger(button.dataset.event, JSON.parse(button.dataset.detail));
  } else if (button.dataset.map) {
    for (const heat of element.querySelectorAll("[data-heat]"))
      heat.classList.toggle("on", heat.dataset.heat === button.dataset.map);
    for (const word of element.querySelectorAll(".word")) word.classList.toggle("on", word === button);
  }
});

element.addEventListener("change", (event) => {
  const file = event.target.files && event.target.files[0];
  if (!file) return;
  if (file.size > MAX_UPLOAD) {
    trigger("upload", { name: file.name, size: file.size });
    return;
  }
  const reader = new FileReader();
  reader.onload = () => trigger("upload", { name: file.name, data: reader.result.split(",")[1] || "" });
  reader.readAsDataURL(file);
});
