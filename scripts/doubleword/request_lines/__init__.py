"""One request of a batch: how its line is made of a row, and checked.

A **form** is all that a user says of requests: the **template** of the prompt with its {column} places, system text,
few-shot **examples**, images, parameters, a response **schema**. It makes of each row a **request** with a custom_id,
url and body, which is written as one **line**. The **checker** holds a line against `request_line.schema.json`; a
**problem** names the place in it that is wrong. A **change** is made to a request that is asked again.

Promises: a line that passes is one that the server takes; nothing of a row is lost or altered on its way into a
request; what is refused is named by its place, and never with the text of a prompt.
"""
