// Takes the picture in README: `node web/picture.mjs URL FILE` of the page that a server has at URL.
import { answered, ask, launch, openPage, SIZES } from "./test/support.mjs";

const [url, file] = process.argv.slice(2);
const QUESTIONS = ["What is the capital of France?", "Name three museums there, as a list."];

const browser = await launch();
try {
  const page = await openPage(browser, url, SIZES.desktop);
  await page.getByRole("button", { name: "Settings" }).first().click();
  await page.getByLabel("Temperature").fill("0");
  await page.keyboard.press("Escape");
  for (const question of QUESTIONS) {
    await ask(page, question);
    await answered(page);
  }
  await page.screenshot({ path: file });
} finally {
  await browser.close();
}
