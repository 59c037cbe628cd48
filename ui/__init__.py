"""The terminal user interface: a Textual program that shows what the daemon tells and forwards what the user wants.

Nothing here speaks SIP, opens a socket or decides anything about a call. `softphone.daemon.link` brings events, which
change the `model.Model`; `redraw.Redraw` lets the widgets of the visible screen draw again, at most 20 times a second,
those that show a part that changed.

A screen is a `page.Page` in ``pages/``, with a line in `pages.PAGES` that says its name, its key and where it is (it is
imported when it is opened first). It composes its widgets in ``body``; the bar on top, the overlay of calls that come
in and the footer come with `Page`. It gets what happens in one of two ways:

* state, which is also there when the screen is opened later: fields of `Model`. A widget derives from
  `redraw.Watching`, names the parts of the model that it shows in ``PARTS``, and draws them in ``show_model``; nothing
  happens while its screen is hidden.
* streams, such as packets or SIP messages: the screen names the topics of the daemon (docs/daemon.md) in ``TOPICS``.
  They are subscribed to while the screen is visible, and each event goes to its ``take_event``, which keeps it and
  calls ``self.wants_drawing()``; ``show_stream`` is called then, at most 20 times a second. What is older is asked for
  when the screen is opened (``on_opened``).

What the user wants is a request to the daemon: ``self.phone.perform("hold", call=...)`` tells errors as a notification;
``await self.phone.request(...)`` returns the answer.
"""
