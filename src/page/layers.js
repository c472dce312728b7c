// `hull layers --html`: one image.
{
  const stack = data();
  fill(document.getElementById("page"),
    h("h1", {}, "Layers of " + stack.name), summary(stack),
    h("p", { class: "soft noprint" }, "Choose a layer to see the files as they are with that layer on top. The number in front of a name is the layer that it comes from."),
    picture(stack));
}
