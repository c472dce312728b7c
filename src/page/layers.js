// `hull layers --html`: one image.
{
  const stack = data();
  fill(document.getElementById("page"),
    h("h1", {}, "Layers of " + stack.name), summary(stack),
    picture(stack));
}
