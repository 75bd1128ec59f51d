// Search in pages that are opened as files: a browser starts no worker there, so a hidden frame runs its script instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      frame.contentDocument.open()
      frame.contentDocument.write(
        "<script>" +
        "postMessage = message => parent.dispatchEvent(new MessageEvent('message', { data: message, source: window }));" +
        "importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise(done => {" +
        "  const script = document.createElement('script'); script.src = url; script.onload = done;" +
        "  document.body.appendChild(script) })), Promise.resolve())" +
        "</script><body><script src='" + new URL(url, location) + "'></script>")
      frame.contentDocument.close()
      this.frame = frame.contentWindow
      addEventListener("message", event => {
        if (event.source !== this.frame) return
        const message = new MessageEvent("message", { data: event.data })
        this.dispatchEvent(message)
        if (this.onmessage) this.onmessage(message)
      })
      this.waiting = []
      frame.addEventListener("load", () => {
        this.waiting.forEach(data => this.send(data))
        this.waiting = null
      })
    }
    postMessage(data) {
      if (this.waiting) this.waiting.push(data)
      else this.send(data)
    }
    send(data) {
      this.frame.dispatchEvent(new MessageEvent("message", { data }))
    }
    terminate() {}
  }
}
