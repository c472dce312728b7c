// `hull compare --html`: one report.
fill(document.getElementById("page"), comparison(data()));
