// Light, dark, or what the system says. The choice is kept in the browser.
import { computed, effect, signal } from "@preact/signals";

export type Choice = "system" | "light" | "dark";

const stored = "tidegate.theme";
const dark = matchMedia("(prefers-color-scheme: dark)");
const system = signal<"light" | "dark">(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => {
  system.value = dark.matches ? "dark" : "light";
});

function read(): Choice {
  try {
    const value = localStorage.getItem(stored);
    return value === "light" || value === "dark" ? value : "system";
  } catch {
    return "system"; // storage is off: the choice lasts for this page
  }
}

export const themeChoice = signal<Choice>(read());
export const theme = computed(() => (themeChoice.value === "system" ? system.value : themeChoice.value));

effect(() => {
  const choice = themeChoice.value;
  if (choice === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = choice;
  try {
    localStorage.setItem(stored, choice);
  } catch {
    // As above.
  }
});
