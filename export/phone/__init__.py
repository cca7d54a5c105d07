"""Write the page that classifies in a phone's browser. It is no stage: `pipe phone` makes it from a bundle.

Reads `dist/bundle.zip` and the package of onnxruntime-web; writes `dist/phone/`, or one HTML file. May import
`pipeline.base` and `runtime`. The page itself is `page/`: plain modules, which are copied as they are.
"""
