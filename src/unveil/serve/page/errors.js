// Errors of a tab, in one place of the page.

const place = () => document.getElementById("error");

export const guarded = (work) => async (...given) => {
  place().textContent = "";
  try {
    return await work(...given);
  } catch (error) {
    place().textContent = error.message;
    return undefined;
  }
};
