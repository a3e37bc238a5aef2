// The two things that a reader can do on Great Expectations' pages: open a folded block, and see failures only.
function showAllValidations() { filterValidations(false); }
function hideSucceededValidations() { filterValidations(true); }

function filterValidations(failedOnly) {
  document.querySelectorAll(".hide-succeeded-validation-target-child").forEach((mark) => {
    mark.closest("tr").classList.toggle("hidden", failedOnly);
  });
  document.querySelectorAll(".hide-succeeded-validations-column-section-target-child").forEach((mark) => {
    const section = mark.closest(".ge-section");
    section.classList.toggle("hidden", failedOnly);
    document.querySelectorAll(`a[href$="#${section.id}"]`).forEach((link) => link.classList.toggle("hidden", failedOnly));
  });
}

document.addEventListener("click", (event) => {
  const toggle = event.target.closest('[data-toggle="collapse"]');
  if (toggle) {
    event.preventDefault();
    const block = document.querySelector(toggle.getAttribute("href") || toggle.dataset.target);
    if (block) block.classList.toggle("show");
  }
  const button = event.target.closest(".btn-group-toggle .btn");
  if (button) {
    button.parentElement.querySelectorAll(".btn").forEach((other) => other.classList.toggle("active", other === button));
  }
});
